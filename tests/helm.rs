//! The Helm chart: what the real helm makes of it, by Kubernetes' own schemas, and what the program says to the
//! configuration in it.

mod chart;
mod render;
mod said;
