//! Rows added to others, and the masks of dropout.

use proptest::prelude::*;
use rallrec::device::DeviceRows;
use rallrec::ops::lora::cases::masked_tolerance;
use rallrec::ops::lora::{Dropout, mask};
use rallrec::ops::rows::cases::sum_tolerance;
use rallrec::ops::rows::kernel::{Places, Runs, add, duplicate};
use rallrec::rng::{Rng, Use};

use super::common::{Values, any_values, cases, close, devices, same_bits};

proptest! {
    #![proptest_config(cases(48))]

    /// Runs of any length, the empty ones among them, go to places in any order.
    #[test]
    fn runs_of_rows_are_added_at_their_places(
        lengths in prop::collection::vec(0usize..4, 0..9), spare in 0usize..4, width in 1usize..40,
        summed: bool, placed: bool, values in any_values(), seed in 0u64..1_000_000,
    ) {
        let lengths = if summed { lengths } else { vec![1; lengths.len()] };
        let (runs, sources) = (lengths.len(), lengths.iter().sum::<usize>());
        let rows = if placed { runs + spare } else { runs };
        let mut order: Vec<u32> = (0..rows as u32).collect();
        if placed {
            Rng::new(seed, Use::Synthetic, 1, 1).shuffle(&mut order);
        }
        let (from, to): (Vec<f32>, Vec<f32>) = (values.draw(sources * width, seed), values.draw(rows * width, seed + 1));
        let (mut want, mut size) = (vec![0.0; to.len()], vec![0.0; to.len()]);
        for (i, &v) in to.iter().enumerate() {
            (want[i], size[i]) = (f64::from(v), f64::from(v.abs()));
        }
        let mut source = 0;
        for (run, &length) in lengths.iter().enumerate() {
            for _ in 0..length {
                for c in 0..width {
                    let (at, v) = (order[run] as usize * width + c, f64::from(from[source * width + c]));
                    want[at] += v;
                    size[at] += v.abs();
                }
                source += 1;
            }
        }
        let mut starts = vec![0u32];
        starts.extend(lengths.iter().scan(0, |sum, &l| { *sum += l as u32; Some(*sum) }));
        for device in devices(seed) {
            let from = DeviceRows::upload(&device, width, &from, "from").unwrap();
            let mut out = DeviceRows::upload(&device, width, &to, "to").unwrap();
            let (list, places) = (Runs::upload(&device, &starts).unwrap(), Places::upload(&device, &order[..runs]).unwrap());
            add(&from, summed.then_some(&list), placed.then_some(&places), &mut out).unwrap();
            let got = out.download().unwrap();
            close("sum", &got, &want, |i| sum_tolerance(size[i]))?;
            same_bits(&duplicate(&out, "copy").unwrap().download().unwrap(), &got)?;
        }
    }

    /// The device's masks are the CPU's, bit for bit.
    #[test]
    fn masks_are_those_of_the_cpu(
        names in prop::collection::vec((0u64..1 << 20, 0u64..1 << 28), 0..5), columns in 1usize..400, p in 0.0f64..1.0,
        step in 0u32..1_000_000, stream in 0u32..1 << 20, accumulate: bool, seed: u64,
    ) {
        let names: Vec<u64> = names.into_iter().map(|(group, row)| group << 32 | row).collect();
        let mask = Dropout::new(p, seed, step, stream);
        let x: Vec<f32> = Values::Normal.draw(names.len() * columns, seed);
        let old: Vec<f32> = if accumulate { Values::Normal.draw(x.len(), seed ^ 1) } else { vec![0.0; x.len()] };
        let mut factors = vec![0.0; columns];
        let mut want = Vec::new();
        for (&name, x) in names.iter().zip(x.chunks_exact(columns)) {
            mask.factors(name, &mut factors);
            want.extend(factors.iter().zip(x).map(|(f, x)| f64::from(*f) * f64::from(*x)));
        }
        for device in devices(seed) {
            let on_device = DeviceRows::upload(&device, columns, &x, "x").unwrap();
            let named = device.upload(&names, "names").unwrap();
            let mut y = DeviceRows::upload(&device, columns, &old, "y").unwrap();
            mask::apply(mask, &named, &on_device, accumulate, &mut y).unwrap();
            let got = y.download().unwrap();
            let want: Vec<f64> = want.iter().zip(&old).map(|(w, &o)| w + f64::from(o)).collect();
            close("y", &got, &want, |i| masked_tolerance(want[i], want[i] - f64::from(old[i])))?;
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    for device in devices(0) {
        let rows = |n: usize| DeviceRows::upload(&device, 3, &vec![1.0f32; 3 * n], "rows").unwrap();
        let places = Places::upload(&device, &[4]).unwrap();
        let runs = Runs::upload(&device, &[0, 2, 5]).unwrap();
        assert!(add(&rows(1), None, Some(&places), &mut rows(4)).is_err(), "a place beyond the end");
        assert!(add(&rows(4), Some(&runs), None, &mut rows(2)).is_err(), "a run beyond the end");
        assert!(add(&rows(3), None, None, &mut rows(2)).is_err(), "another number of rows");
        assert!(Runs::upload(&device, &[2, 1]).is_err() && Runs::upload(&device, &[]).is_err());
        let names = device.upload(&[1u64], "names").unwrap();
        let mask = Dropout::new(0.5, 1, 1, 1);
        assert!(mask::apply(mask, &names, &rows(2), false, &mut rows(2)).is_err(), "a name too few");
    }
}
