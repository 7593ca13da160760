//! The device layer: what it says when memory ends or a launch is wrong, and what it keeps count
//! of.

use rallrec::device::{Arg, KernelDevice, Launch};
use rallrec::ops::merge::kernel::sum_rows;
use rallrec::tensor::Cost;
use rallrec::tensor::profile::{self, Place};

use super::common::devices;

#[test]
fn memory_that_ends_names_who_holds_it() {
    let device = KernelDevice::host(0);
    device.limit_memory(10_000);
    let kept = device.zeros::<f32>(2000, "item rows").unwrap();
    let _more = device.zeros::<u8>(100, "flags").unwrap();
    let text = device.zeros::<f32>(1000, "gradient").unwrap_err().to_string();
    for part in ["3.9 KiB asked for gradient", "1.9 KiB free", "item rows 7.8 KiB, flags 100 B", "lower the batch size"]
    {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    drop(kept);
    device.zeros::<f32>(1000, "gradient").unwrap();
    assert_eq!(device.memory_in_use(), (100, 8100));
}

#[test]
fn a_fault_names_kernel_line_and_shapes() {
    let device = KernelDevice::host(0);
    let x = device.zeros::<f32>(60, "layer").unwrap();
    let terms = device.zeros::<f64>(1, "sums").unwrap();
    let launch = Launch::new("sum_f64", 1, 256, Cost::default());
    // SAFETY: the host build catches what is planted here: 32 f64 do not fit 60 f32.
    let result = unsafe {
        device.launch(&launch, &[x.arg(), Arg::U64(32), Arg::U64(32), Arg::U32(1), Arg::F64(1.0), terms.arg()])
    };
    let text = result.unwrap_err().to_string();
    for part in [
        "kernel sum_f64",
        "merge.cu:",
        "buffer layer, which has 240",
        "grid [1, 1, 1]",
        "layer: 240 B, 32, 32, 1, 1.0, sums: 8 B",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    // SAFETY: refused before it runs.
    let result = unsafe { device.launch(&launch, &[x.arg()]) };
    assert!(result.unwrap_err().to_string().contains("it takes [8, 8, 8, 4, 8, 8]"));
}

/// Timing is switched for the whole process, and other tests launch meanwhile: a number of blocks
/// that nothing else has.
#[test]
fn launches_are_counted_only_while_they_are_timed() {
    let device = KernelDevice::host(0);
    let rows = 4_099;
    let (x, mut out) = (device.zeros::<f64>(2 * rows, "x").unwrap(), device.zeros::<f64>(rows, "out").unwrap());
    let sum = |out: &mut _| rallrec::ops::merge::kernel::sum_rows(&x, rows, 1.0, out).unwrap();
    let what = ("sum_f64", Place::Kernel { device: "host", grid: [rows as u32, 1, 1] });
    sum(&mut out);
    assert!(!profile::take().contains_key(&what));
    profile::switch(true);
    let cost = sum(&mut out);
    profile::switch(false);
    let tally = profile::take()[&what];
    assert_eq!((tally.calls, tally.cost.bytes), (1, cost.bytes));
    assert!(tally.seconds > 0.0);
}

#[test]
fn a_panic_while_recording_ends_the_recording() {
    for device in devices(6) {
        let before = device.memory_in_use().0;
        let panics = std::panic::AssertUnwindSafe(|| {
            device.record(|| -> rallrec::Result<()> {
                let _lost = device.zeros::<f32>(64, "lost")?;
                panic!("planted")
            })
        });
        assert!(std::panic::catch_unwind(panics).is_err());
        assert_eq!(device.memory_in_use().0, before, "what was taken meanwhile is given back");
        let x = device.upload(&[1.0f32, 2.0], "x").unwrap();
        assert_eq!(device.download(&x).unwrap(), [1.0, 2.0], "copies work again");
        let (recording, ()) = device.record(|| Ok(())).unwrap();
        assert_eq!(recording.launches(), 0);
    }
}

#[test]
fn buffers_of_nothing_can_be_cleared_and_copied() {
    for device in devices(7) {
        let mut nothing = device.zeros::<f32>(0, "nothing").unwrap();
        device.clear(&mut nothing).unwrap();
        device.write(&mut nothing, &[]).unwrap();
        assert!(device.download(&nothing).unwrap().is_empty());
        let (recording, ()) = device.record(|| device.zeros::<f32>(0, "nothing").map(drop)).unwrap();
        // SAFETY: it launches nothing.
        unsafe { recording.replay() }.unwrap();
    }
}

/// Larger than the staging memory twice over, and no multiple of its halves.
#[test]
fn long_copies_arrive_whole() {
    for device in devices(8) {
        let values: Vec<u32> = (0..(4 << 20) + 12_345).map(|i: u32| i.wrapping_mul(2_654_435_761)).collect();
        let from = device.upload(&values, "from").unwrap();
        let mut to = device.zeros::<u32>(values.len(), "to").unwrap();
        device.copy(&from, &mut to).unwrap();
        assert!(device.download(&to).unwrap() == values, "{device:?}");
    }
}

#[test]
fn launches_of_a_series_come_back_in_order_with_their_seconds() {
    for device in devices(9) {
        let (x, mut out) = (device.zeros::<f64>(96, "x").unwrap(), device.zeros::<f64>(32, "out").unwrap());
        let mut work = || (1..=3).try_for_each(|n| sum_rows(&x, 2 * n, 1.0, &mut out).map(drop));
        let times = device.time_launches(&mut work).unwrap();
        assert_eq!(times.iter().map(|t| (t.kernel, t.grid[0])).collect::<Vec<_>>(), [2, 4, 6].map(|n| ("sum_f64", n)));
        assert!(times.iter().all(|t| t.seconds > 0.0 && t.cost.bytes > 0.0), "{times:?}");
    }
}

#[test]
fn a_recording_runs_again_over_what_its_buffers_hold_now() {
    for device in devices(5) {
        let mut x = device.upload(&[1.0f64, 2.0, 3.0, 4.0], "x").unwrap();
        let before = device.memory_in_use().0;
        let round = |out: &mut _| {
            let mut sums = device.zeros::<f64>(2, "sums")?;
            sum_rows(&x, 2, 1.0, &mut sums)?;
            sum_rows(&sums, 1, 10.0, out)
        };
        let recorded = device.record(|| {
            let mut outs = [device.zeros::<f64>(1, "out")?, device.zeros::<f64>(1, "out")?];
            outs.iter_mut().try_for_each(|out| round(out).map(drop))?;
            Ok((outs, device.zeros::<f64>(2, "zeros")?))
        });
        let (recording, (outs, mut zeros)) = recorded.unwrap();
        assert_eq!(recording.launches(), 4);
        // Two results, two zeros, and one place for the sums of both rounds.
        assert_eq!(device.memory_in_use().0 - before, 48);
        for (values, want) in [([1.0f64, 2.0, 3.0, 4.0], 100.0), ([5.0, 6.0, 7.0, 0.5], 185.0)] {
            device.write(&mut x, &values).unwrap();
            device.write(&mut zeros, &values[..2]).unwrap();
            // Whoever takes memory in between gets none of the recording's.
            let other = device.upload(&[f64::NAN; 2], "sums").unwrap();
            // SAFETY: x, outs and zeros are there.
            unsafe { recording.replay() }.unwrap();
            assert_eq!(device.download(&zeros).unwrap(), [0.0; 2], "zeros are made again");
            for out in &outs {
                assert_eq!(device.download(out).unwrap(), [want]);
            }
            assert!(device.download(&other).unwrap().iter().all(|v| v.is_nan()));
        }
        drop((recording, outs, zeros));
        assert_eq!(device.memory_in_use().0, before);
    }
}

#[test]
fn what_cannot_be_recorded_is_refused_and_ends_the_recording() {
    for device in devices(5) {
        let x = device.upload(&[1.0f64, 2.0], "x").unwrap();
        let words = [
            device.record(|| device.upload(&[1.0f64], "more")).unwrap_err(),
            device.record(|| device.download(&x)).unwrap_err(),
            device.record(|| device.synchronize()).unwrap_err(),
            device.record(|| device.record(|| Ok(()))).unwrap_err(),
        ];
        for (error, word) in words.iter().zip(["a copy to", "a copy from", "waiting", "recorded already"]) {
            assert!(error.to_string().contains(word), "no {word:?} in {error}");
        }
        let mut out = device.zeros::<f64>(1, "out").unwrap();
        sum_rows(&x, 1, 2.0, &mut out).unwrap();
        assert_eq!(device.download(&out).unwrap(), [6.0], "launches run again");
    }
}
