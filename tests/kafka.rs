//! The whole way into a real Apache Kafka, read back by an independent client.

use crate::{
    broker::Broker,
    harness::{CLIP, CameraProcess, Scene, assert_valid, of_type},
};
