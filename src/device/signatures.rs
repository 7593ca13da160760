//! A driver takes a kernel's arguments as they come. The host build of the same sources knows how
//! many there are and how large each is, so a wrong launch is refused before it can do harm.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::kernel::{Arg, Launch};
use crate::error::{Error, Result};

static KERNELS: LazyLock<HashMap<String, rallrec_kernels_host::Kernel>> =
    LazyLock::new(|| rallrec_kernels_host::kernels().into_iter().map(|k| (k.name.clone(), k)).collect());

pub(super) fn check(launch: &Launch, args: &[Arg]) -> Result<()> {
    // A name that it does not know is refused where it is launched.
    let Some(kernel) = KERNELS.get(launch.kernel) else { return Ok(()) };
    let sizes: Vec<usize> = args.iter().map(Arg::size).collect();
    if sizes != kernel.argument_sizes {
        let what = format!("arguments of {sizes:?} bytes; it takes {:?}", kernel.argument_sizes);
        return Err(Error::failed(format!("kernel {}", launch.kernel), what));
    }
    Ok(())
}
