//! The compiled kernels inside this binary.

/// One translation unit for one architecture.
#[derive(Debug, Clone, Copy)]
pub struct Image {
    /// The source's name without ending, e.g. `spmm`.
    pub unit: &'static str,
    /// `80` for a cubin of sm_80, `90a`; of PTX the lowest architecture it runs on.
    pub architecture: &'static str,
    /// PTX, which the driver compiles, instead of machine code.
    pub ptx: bool,
    /// The file; PTX ends with a zero.
    pub bytes: &'static [u8],
}

/// A unit that was compiled while the program ran.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// Its source, for people.
    pub unit: String,
    /// The kernels in it.
    pub kernels: Vec<String>,
    /// Machine code for the GPU at hand.
    pub code: Vec<u8>,
}

/// Machine code at an address that its format's words ask for; bytes of a file may lie anywhere.
#[allow(dead_code, reason = "without a CUDA compiler there is no code")]
#[repr(C, align(16))]
struct Aligned<T>(T);

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// The image of `unit` that runs best on compute capability `major.minor`: machine code of this
/// generation, else PTX.
pub fn best(unit: &str, major: u32, minor: u32) -> Option<&'static Image> {
    let have = major * 10 + minor;
    let runs = |image: &&Image| {
        let digits = image.architecture.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let Ok(needs) = digits.parse::<u32>() else { return false };
        match (image.ptx, digits.len() == image.architecture.len()) {
            (true, _) => needs <= have,
            (false, true) => needs / 10 == major && needs <= have,
            // Code with an architecture's own instructions runs on that one alone.
            (false, false) => needs == have,
        }
    };
    IMAGES.iter().filter(|i| i.unit == unit).filter(runs).max_by_key(|i| (!i.ptx, i.architecture))
}

/// The unit that holds `kernel`.
pub fn unit_of(kernel: &str) -> Option<&'static str> {
    KERNELS.iter().find(|(name, _)| *name == kernel).map(|(_, unit)| *unit)
}

/// What this binary holds, for people.
pub fn compiled() -> String {
    if IMAGES.is_empty() {
        return "no CUDA code in this binary; scripts/nvcc-venv fetches a compiler, then set RALLREC_CUDA_VENV and build"
            .to_owned();
    }
    let mut kinds: Vec<String> = IMAGES
        .iter()
        .map(|i| if i.ptx { format!("PTX {}", i.architecture) } else { format!("sm_{}", i.architecture) })
        .collect();
    kinds.sort();
    kinds.dedup();
    format!("{} ({})", kinds.join(", "), COMPILER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_code_is_aligned() {
        for image in IMAGES.iter().filter(|image| !image.ptx) {
            assert_eq!(image.bytes.as_ptr() as usize % 16, 0, "{} for {}", image.unit, image.architecture);
        }
    }
}
