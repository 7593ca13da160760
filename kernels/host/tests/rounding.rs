//! The ways of matrix units to round, by what is known of them.

use rallrec_kernels_host::{Rounding, add_products};

const ALL: [Rounding; 3] = [Rounding::Nearest, Rounding::A100, Rounding::Hopper];

fn two(exponent: i32) -> f32 {
    2f32.powi(exponent)
}

fn each(c: f32, a: &[f32], b: &[f32]) -> [f32; 3] {
    ALL.map(|how| add_products(how, c, a, b))
}

#[test]
fn addends_below_the_kept_bits_are_lost_and_the_rest_is_summed_exactly() {
    let ones = [1.0; 16];
    // Half a unit in the last place of 1 each: lost one by one, kept with one bit more.
    assert_eq!(each(1.0, &[two(-24); 16], &ones), [1.0, 1.0 + 16.0 * two(-24), 1.0 + 16.0 * two(-24)]);
    // A quarter: one bit is too few, two are enough.
    assert_eq!(each(1.0, &[two(-25); 16], &ones), [1.0, 1.0, 1.0 + 16.0 * two(-25)]);
    assert_eq!(each(1.0, &[two(-26); 16], &ones), [1.0; 3]);
    // Where nothing is cut off, all agree.
    assert_eq!(each(0.0, &[3.0, -2.0], &[5.0, 7.0]), [1.0; 3]);
}

#[test]
fn results_are_cut_off_toward_zero() {
    let one = [1.0];
    for sign in [1.0, -1.0] {
        let [nearest, a100, hopper] = each(sign, &[sign * 1.5 * two(-23)], &one);
        assert_eq!(nearest, sign * (1.0 + two(-22)));
        assert_eq!([a100, hopper], [sign * (1.0 + two(-23)); 2]);
    }
}

#[test]
fn eight_products_at_a_time_on_one_and_sixteen_on_the_other() {
    // The first eight cancel and leave the next eight alone with a small sum.
    let mut a = [0.0; 16];
    (a[0], a[1], a[8]) = (1.0, -1.0, two(-30));
    assert_eq!(each(0.0, &a, &[1.0; 16]), [two(-30), two(-30), 0.0]);
}

#[test]
fn what_is_no_number_stays_so_and_small_sums_stay_small() {
    for how in ALL {
        assert!(add_products(how, 1.0, &[f32::NAN], &[1.0]).is_nan());
        assert_eq!(add_products(how, 1.0, &[f32::INFINITY], &[1.0]), f32::INFINITY);
        assert_eq!(add_products(how, 0.0, &[0.0; 16], &[1.0; 16]), 0.0);
        assert_eq!(add_products(how, 0.0, &[two(-140)], &[1.0]), two(-140), "a subnormal");
        assert_eq!(add_products(how, f32::MAX, &[0.0], &[1.0]), f32::MAX);
    }
}
