//! Shared-memory accesses of the 64 x 64 tile (`common/tile.cuh`), lane by lane, against the banks.

use rallrec_kernels_host::banks::{conflict, tile_address};

const ROWS: usize = 64;
const DEPTH: usize = 32;

/// Addresses of a warp's lanes.
fn lanes(at: impl Fn(usize) -> usize) -> [usize; 32] {
    std::array::from_fn(at)
}

#[test]
fn the_calculator_knows_what_a_conflict_is() {
    assert_eq!(conflict(&lanes(|lane| 4 * lane), 4), 1);
    assert_eq!(conflict(&lanes(|lane| 128 * lane), 4), 32, "all in one bank");
    assert_eq!(conflict(&lanes(|_| 64), 4), 1, "one word for all");
    assert_eq!(conflict(&lanes(|lane| 16 * lane), 16), 1);
    // Rows of 80 bytes: no conflict for eight rows of an ldmatrix, one for 8-byte stores of rows.
    assert_eq!(conflict(&lanes(|lane| 80 * (lane % 8)), 16), 1);
    assert_eq!(conflict(&lanes(|lane| 80 * (lane / 8) + 8 * (lane % 8)), 8), 2);
    // Single values of a column, 80 bytes apart, four rows a lane: what the tile did before.
    assert_eq!(conflict(&lanes(|lane| 80 * (4 * (lane % 16)) + 2 * (lane / 16)), 4), 8);
}

#[test]
fn every_value_has_a_place_of_its_own() {
    for turned in [false, true] {
        let mut places: Vec<usize> = (0..ROWS * DEPTH).map(|i| tile_address(turned, i / DEPTH, i % DEPTH)).collect();
        places.sort_unstable();
        assert_eq!(places, (0..ROWS * DEPTH).map(|i| 2 * i).collect::<Vec<_>>(), "turned {turned}");
    }
}

/// As `Fetch::finish` stores four f32 values a lane in each plane (8 bytes), and `cp.async` eight
/// bf16 values (16 bytes).
#[test]
fn stores_of_the_tile_meet_no_bank_twice() {
    for turned in [false, true] {
        for (values, bytes) in [(4, 8), (8, 16)] {
            let line_of = if turned { ROWS } else { DEPTH } / values;
            for first in (0..ROWS * DEPTH / values).step_by(32) {
                let address = |lane: usize| {
                    let (line, at) = ((first + lane) / line_of, (first + lane) % line_of * values);
                    if turned { tile_address(true, at, line) } else { tile_address(false, line, at) }
                };
                assert_eq!(conflict(&lanes(address), bytes), 1, "turned {turned}, {bytes} bytes, from {first}");
            }
        }
    }
}

/// As `tile_left` and `tile_right` read: eight rows of 16 bytes a matrix.
#[test]
fn matrices_of_the_tile_meet_no_bank_twice() {
    for k in (0..DEPTH).step_by(16) {
        for row in (0..ROWS).step_by(16) {
            let left = |l: usize| tile_address(false, row + l % 16, k + l / 16 * 8);
            let left_turned = |l: usize| tile_address(true, row + l / 8 % 2 * 8, k + l / 16 * 8 + l % 8);
            let right = |l: usize| tile_address(false, row + l / 16 * 8 + l % 8, k + l / 8 % 2 * 8);
            let right_turned = |l: usize| tile_address(true, row + l / 16 * 8, k + l / 8 % 2 * 8 + l % 8);
            for addresses in [lanes(left), lanes(left_turned), lanes(right), lanes(right_turned)] {
                assert_eq!(conflict(&addresses, 16), 1, "rows from {row}, k from {k}");
                assert!(addresses.iter().all(|a| a % 16 == 0), "aligned to 16 bytes");
            }
        }
    }
}
