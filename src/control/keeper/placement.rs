//! Where streams go so that workers have equal shares by their capacity. Pure functions.

/// A worker that takes streams.
#[derive(Debug, Clone, PartialEq)]
pub struct Seat {
    /// Its id.
    pub worker: String,
    /// Weight that it can take, next to others.
    pub capacity: f32,
    /// Leases that it has.
    pub leases: Vec<u32>,
}

/// A stream that is to be somewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Burden<'a> {
    /// Its name.
    pub name: &'a str,
    /// The lease it lies in.
    pub lease: u32,
    /// How much work it is.
    pub weight: f32,
}

/// One stream is to go to another lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Its name.
    pub name: String,
    /// From this lease.
    pub from: u32,
    /// To this one.
    pub to: u32,
}

/// A move must take at least this part off the fullest worker's load: less is not worth a new connection to a camera.
const WORTH: f32 = 0.05;

/// The lease for a new stream: of the worker that will be the least loaded with it, the emptiest. Where no worker is known,
/// the emptiest of all.
pub fn place(seats: &[Seat], burdens: &[Burden<'_>], n_leases: u32, weight: f32) -> u32 {
    let by_lease = weights(burdens, n_leases);
    let after = |seat: &Seat| (weight_of(seat, &by_lease) + weight) / room(seat);
    let best = seats.iter().filter(|seat| !seat.leases.is_empty()).min_by(|a, b| after(a).total_cmp(&after(b)));
    let emptiest = match best {
        Some(seat) => emptiest(seat.leases.iter().copied().filter(|lease| *lease < n_leases), &by_lease),
        None => emptiest(0..n_leases, &by_lease),
    };
    emptiest.unwrap_or(0)
}

/// The move that evens out the fullest worker and the emptiest best; none where no move is worth it, or where it is not
/// settled who has which lease.
pub fn next_move(seats: &[Seat], burdens: &[Burden<'_>], n_leases: u32) -> Option<Move> {
    let mut n_seats = vec![0; n_leases as usize];
    for lease in seats.iter().flat_map(|seat| &seat.leases) {
        *n_seats.get_mut(*lease as usize)? += 1;
    }
    if n_seats.iter().any(|n| *n != 1) {
        return None;
    }
    let by_lease = weights(burdens, n_leases);
    let load = |seat: &Seat| weight_of(seat, &by_lease) / room(seat);
    let taking = seats.iter().filter(|seat| !seat.leases.is_empty());
    let fullest = taking.clone().max_by(|a, b| load(a).total_cmp(&load(b)))?;
    let emptier = taking.min_by(|a, b| load(a).total_cmp(&load(b)))?;
    let (high, low) = (load(fullest), load(emptier));
    let after = |weight: f32| (high - weight / room(fullest)).max(low + weight / room(emptier));
    let best = burdens
        .iter()
        .filter(|burden| fullest.leases.contains(&burden.lease))
        .min_by(|a, b| after(a.weight).total_cmp(&after(b.weight)))?;
    let to = emptiest(emptier.leases.iter().copied(), &by_lease)?;
    let is_worth_it = fullest.worker != emptier.worker && high - after(best.weight) > WORTH * high;
    is_worth_it.then(|| Move { name: best.name.to_owned(), from: best.lease, to })
}

fn weights(burdens: &[Burden<'_>], n_leases: u32) -> Vec<f32> {
    let mut by_lease = vec![0.0; n_leases as usize];
    for burden in burdens {
        if let Some(sum) = by_lease.get_mut(burden.lease as usize) {
            *sum += burden.weight;
        }
    }
    by_lease
}

fn weight_of(seat: &Seat, by_lease: &[f32]) -> f32 {
    seat.leases.iter().filter_map(|lease| by_lease.get(*lease as usize)).sum()
}

/// Never nothing, so that a worker that says 0 is full and not infinite.
fn room(seat: &Seat) -> f32 {
    if seat.capacity.is_finite() { seat.capacity.max(0.001) } else { 1.0 }
}

fn emptiest(leases: impl Iterator<Item = u32>, by_lease: &[f32]) -> Option<u32> {
    let weight = |lease: u32| by_lease.get(lease as usize).copied().unwrap_or(0.0);
    leases.min_by(|a, b| weight(*a).total_cmp(&weight(*b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(worker: &str, capacity: f32, leases: &[u32]) -> Seat {
        Seat { worker: worker.into(), capacity, leases: leases.into() }
    }

    fn burdens(of: &[(u32, f32)]) -> Vec<Burden<'static>> {
        const NAMES: [&str; 8] = ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"];
        of.iter()
            .enumerate()
            .map(|(i, (lease, weight))| Burden { name: NAMES[i], lease: *lease, weight: *weight })
            .collect()
    }

    #[test]
    fn a_new_stream_goes_where_there_is_room() {
        let check = |seats: &[Seat], there: &[(u32, f32)], weight: f32, expected: u32| {
            assert_eq!(place(seats, &burdens(there), 4, weight), expected, "{seats:?} {there:?} {weight}");
        };
        let two = [seat("a", 1.0, &[0, 1]), seat("b", 1.0, &[2, 3])];
        check(&[], &[], 1.0, 0);
        check(&[], &[(0, 1.0), (1, 1.0), (2, 1.0)], 1.0, 3);
        check(&two, &[], 1.0, 0);
        check(&two, &[(0, 1.0)], 1.0, 2);
        check(&two, &[(0, 1.0), (2, 1.0)], 1.0, 1);
        check(&two, &[(0, 1.0), (2, 2.0)], 1.0, 1);
        // Three times the room takes three times the weight before the other gets any.
        let unequal = [seat("a", 1.0, &[0, 1]), seat("b", 3.0, &[2, 3])];
        check(&unequal, &[], 1.0, 2);
        check(&unequal, &[(2, 1.0)], 1.0, 3);
        check(&unequal, &[(2, 1.0), (3, 2.0)], 1.0, 0);
        // One that has no lease, or says that it can take nothing, is left alone while there is another.
        check(&[seat("a", 9.0, &[]), seat("b", 1.0, &[3])], &[(3, 5.0)], 1.0, 3);
        check(&[seat("a", 0.0, &[0, 1]), seat("b", 1.0, &[2, 3])], &[(2, 50.0)], 1.0, 3);
        check(&[seat("a", f32::NAN, &[0, 1]), seat("b", 1.0, &[2, 3])], &[(0, 1.0)], 1.0, 2);
    }

    #[test]
    fn one_stream_moves_while_that_evens_out() {
        let check = |seats: &[Seat], there: &[(u32, f32)], expected: Option<(&str, u32, u32)>| {
            let expected = expected.map(|(name, from, to)| Move { name: name.into(), from, to });
            assert_eq!(next_move(seats, &burdens(there), 4), expected, "{seats:?} {there:?}");
        };
        let two = [seat("a", 1.0, &[0, 1]), seat("b", 1.0, &[2, 3])];
        check(&two, &[], None);
        check(&two, &[(0, 1.0)], None);
        check(&two, &[(0, 1.0), (1, 1.0), (2, 1.0)], None);
        check(&two, &[(0, 1.0), (1, 1.0)], Some(("s0", 0, 2)));
        check(&two, &[(2, 1.0), (3, 1.0), (3, 1.0), (0, 1.0)], Some(("s0", 2, 1)));
        // The stream whose move evens out most, into the emptiest lease there.
        check(&two, &[(0, 4.0), (1, 1.0), (2, 2.0)], Some(("s1", 1, 3)));
        // One huge stream stays where it is: elsewhere it would be as much alone.
        check(&two, &[(0, 10.0)], None);
        // By capacity.
        let unequal = [seat("a", 1.0, &[0, 1]), seat("b", 3.0, &[2, 3])];
        check(&unequal, &[(0, 1.0), (2, 1.0), (2, 1.0), (3, 1.0)], None);
        check(&unequal, &[(0, 1.0), (1, 1.0), (2, 1.0), (3, 1.0)], Some(("s0", 0, 2)));
        // Not while leases are on their way: one belongs to nobody, or to two.
        check(&[seat("a", 1.0, &[0, 1]), seat("b", 1.0, &[2])], &[(0, 1.0), (1, 1.0)], None);
        check(&[seat("a", 1.0, &[0, 1, 2]), seat("b", 1.0, &[2, 3])], &[(0, 1.0), (1, 1.0)], None);
        check(&[seat("a", 1.0, &[0, 9]), seat("b", 1.0, &[2, 3])], &[(0, 1.0), (1, 1.0)], None);
        check(&[seat("a", 1.0, &[0, 1, 2, 3])], &[(0, 1.0), (1, 1.0)], None);
    }

    #[test]
    fn moves_come_to_an_end() {
        let seats = [seat("a", 1.0, &[0]), seat("b", 2.0, &[1, 2]), seat("c", 1.5, &[3])];
        for seed in 0..200_u32 {
            let mut there: Vec<(u32, f32)> = (0..8)
                .map(|i| (seed.wrapping_mul(2_654_435_761).rotate_left(i * 4) % 4, 1.0 + (i % 3) as f32))
                .collect();
            let mut n_moves = 0;
            while let Some(Move { name, to, .. }) = next_move(&seats, &burdens(&there), 4) {
                there[name[1..].parse::<usize>().expect("a number")].0 = to;
                n_moves += 1;
                assert!(n_moves < 50, "seed {seed}: moved for ever");
            }
        }
    }
}
