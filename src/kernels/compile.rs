//! Compiles units while the program runs: by g++ into a library for the host build, by nvcc for a
//! GPU. What was compiled once is kept by content: a unit, its headers, the flags and the version
//! of the compiler.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::sources::{SOURCES, Sources, Unit};
use crate::device::{Compiled, Set};
use crate::error::{Error, Result};

/// What was compiled, and how long it took.
#[derive(Debug, Clone)]
pub struct Built {
    /// Names of the units that differ from the program's.
    pub units: Vec<String>,
    /// How many of them were compiled now; the rest was kept from before.
    pub compiled: usize,
    /// Seconds of all that.
    pub seconds: f64,
}

/// A compiler on this machine.
#[derive(Debug, Clone)]
pub struct Compiler {
    program: PathBuf,
    version: String,
}

fn set(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from)
}

fn folders(path: PathBuf) -> Vec<PathBuf> {
    fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Programs of the CUDA toolkit by this name, nearest first: beside `$NVCC`, in
/// `$RALLREC_CUDA_VENV`, `$CUDA_HOME`, `$CUDA_PATH`, and on the path.
fn in_toolkit(name: &str) -> Option<PathBuf> {
    let beside = set("NVCC").and_then(|nvcc| nvcc.parent().map(Path::to_owned));
    let venv = set("RALLREC_CUDA_VENV").into_iter().flat_map(|venv| folders(venv.join("lib")));
    let venv = venv.flat_map(|python| folders(python.join("site-packages/nvidia"))).map(|toolkit| toolkit.join("bin"));
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(set).map(|home| home.join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let all = beside.into_iter().chain(venv).chain(homes).chain(env::split_paths(&path).collect::<Vec<_>>());
    all.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// The disassembler of the CUDA toolkit, if this machine has it.
pub fn disassembler() -> Option<PathBuf> {
    in_toolkit("nvdisasm")
}

/// `$XDG_CACHE_HOME/rallrec/kernels`, else that in `~/.cache`.
///
/// # Errors
/// No home folder; one that cannot be written in.
pub fn cache() -> Result<PathBuf> {
    let home = set("XDG_CACHE_HOME").or_else(|| env::home_dir().map(|home| home.join(".cache")));
    let home = home.ok_or_else(|| {
        Error::failed("--kernels", "there is no home folder to keep compiled kernels in").next("set XDG_CACHE_HOME")
    })?;
    let folder = home.join("rallrec/kernels");
    fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, "make the folder", &e))?;
    Ok(folder)
}

/// The headers of the program in the cache, where compilers find them.
fn headers(cache: &Path) -> Result<PathBuf> {
    let mut hash = blake3::Hasher::new();
    for (name, text) in SOURCES {
        hash.update(name.as_bytes());
        hash.update(text.as_bytes());
    }
    let folder = cache.join(format!("sources-{}", short(&hash)));
    if !folder.is_dir() {
        // Another process may do the same: whoever is first gives the folder its name.
        let part = tempfile::tempdir_in(cache).map_err(|e| Error::io(cache, "write in the folder", &e))?;
        super::sources::write(part.path())?;
        if fs::rename(part.path(), &folder).is_ok() {
            let _ = part.keep();
        }
    }
    Ok(folder)
}

fn short(hash: &blake3::Hasher) -> String {
    hash.finalize().to_hex().as_str()[..24].to_owned()
}

fn key(compiler: &Compiler, flags: &[String], unit: &Unit) -> String {
    let mut hash = blake3::Hasher::new();
    let words = flags.iter().map(String::as_str).chain([compiler.version.as_str()]);
    let files = unit.files.iter().flat_map(|(name, text)| [name.as_str(), text.as_str()]);
    // The path stands in the messages of faults.
    let path = unit.path.to_string_lossy();
    for word in words.chain(files).chain([&*path]) {
        hash.update(&(word.len() as u64).to_le_bytes());
        hash.update(word.as_bytes());
    }
    short(&hash)
}

impl Compiler {
    fn at(program: PathBuf) -> Option<Self> {
        let answer = Command::new(&program).arg("--version").stdin(Stdio::null()).output().ok()?;
        let version = String::from_utf8_lossy(&answer.stdout).into_owned();
        answer.status.success().then_some(Self { program, version })
    }

    /// The C++ compiler: `$CXX`, else g++, else c++.
    ///
    /// # Errors
    /// None of them.
    pub fn host() -> Result<Self> {
        let names = set("CXX").into_iter().chain(["g++", "c++"].map(PathBuf::from));
        names.filter_map(Self::at).next().ok_or_else(|| {
            Error::failed("--kernels", "there is no C++ compiler for the host build")
                .next("install g++, or set CXX to a compiler that takes its arguments")
        })
    }

    /// The CUDA compiler, where `cargo build` looks for it.
    ///
    /// # Errors
    /// None.
    pub fn cuda() -> Result<Self> {
        let named = set("NVCC").filter(|nvcc| nvcc.is_file()).or_else(|| in_toolkit("nvcc"));
        named.and_then(Self::at).ok_or_else(|| {
            Error::failed("--kernels", "there is no nvcc").next(
                "set NVCC to one, or RALLREC_CUDA_VENV to a folder that scripts/nvcc-venv made; --device host needs none",
            )
        })
    }

    /// Runs the compiler on every unit that is not in the cache, as many at a time as there are
    /// cores. The objects, and how many are new.
    fn objects(
        &self,
        units: &[Unit],
        flags: &[String],
        headers: &Path,
        cache: &Path,
        ending: &str,
        folder: &Path,
    ) -> Result<(Vec<PathBuf>, usize)> {
        let place = |unit: &Unit| cache.join(format!("{}-{}.{ending}", unit.name, key(self, flags, unit)));
        let missing: Vec<&Unit> = units.iter().filter(|unit| !place(unit).is_file()).collect();
        let next = std::sync::atomic::AtomicUsize::new(0);
        let failures = std::sync::Mutex::new(Vec::new());
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(missing.len());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some(unit) = missing.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                        if let Err(error) = self.object(unit, flags, headers, &place(unit), folder) {
                            failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(error);
                        }
                    }
                });
            }
        });
        match failures.into_inner().unwrap_or_default().into_iter().next() {
            Some(error) => Err(error),
            None => Ok((units.iter().map(place).collect(), missing.len())),
        }
    }

    fn object(&self, unit: &Unit, flags: &[String], headers: &Path, to: &Path, folder: &Path) -> Result<()> {
        // Written under another name first: a compiler that is stopped leaves half a file.
        let part = to.with_extension(format!("part-{}", std::process::id()));
        let mut command = Command::new(&self.program);
        command.args(flags).arg("-I").arg(folder).arg("-I").arg(headers).arg("-I").arg(headers.join("common"));
        command.arg("-o").arg(&part).arg(&unit.path).stdin(Stdio::null());
        let out = command.output().map_err(|e| Error::io(&self.program, "run", &e))?;
        let said = String::from_utf8_lossy(&out.stderr);
        if !out.status.success() {
            let _ = fs::remove_file(&part);
            return Err(Error::input(unit.path.display(), format!("does not compile\n{}", said.trim_end())));
        }
        let log = to.with_extension("log");
        fs::write(&log, said.as_bytes()).map_err(|e| Error::io(&log, "write", &e))?;
        fs::rename(&part, to).map_err(|e| Error::io(to, "write", &e))
    }
}

/// As the program's own kernels are compiled, at the level that is ready soonest.
fn host_flags() -> Vec<String> {
    // Nothing of two libraries may be one, though they have kernels of the same names.
    let own = ["-xc++", "-c", "-O1", "-g1", "-fno-gnu-unique"];
    own.into_iter().chain(rallrec_kernels_host::FLAGS).map(String::from).collect()
}

/// The units of a folder that differ from the program's, as a set of kernels for the host build.
/// `wanted` are the units of the program that are asked for.
///
/// # Errors
/// No compiler; a source that does not compile; a library that does not fit this program; two units
/// with one kernel.
pub fn for_host(sources: &Sources, wanted: &[&str]) -> Result<(Set, Built)> {
    let began = Instant::now();
    let units = sources.changed(wanted)?;
    let names: Vec<String> = units.iter().map(|u| u.name.clone()).collect();
    if units.is_empty() {
        return Ok((Set::BUILT_IN, Built { units: names, compiled: 0, seconds: began.elapsed().as_secs_f64() }));
    }
    let (compiler, cache) = (Compiler::host()?, cache()?);
    let (headers, flags) = (headers(&cache)?, host_flags());
    let (objects, compiled) = compiler.objects(&units, &flags, &headers, &cache, "o", sources.folder())?;
    let mut hash = blake3::Hasher::new();
    for object in &objects {
        hash.update(object.to_string_lossy().as_bytes());
    }
    let library = cache.join(format!("kernels-{}.so", short(&hash)));
    if !library.is_file() {
        let part = library.with_extension(format!("part-{}", std::process::id()));
        let mut command = Command::new(&compiler.program);
        // Its own kernels are meant by their names, whatever else is loaded.
        command.args(["-shared", "-Wl,-Bsymbolic", "-o"]).arg(&part).args(&objects);
        let out = command.output().map_err(|e| Error::io(&compiler.program, "run", &e))?;
        if !out.status.success() {
            let said = String::from_utf8_lossy(&out.stderr);
            let twice = said.contains("multiple definition");
            let error = Error::input(sources.folder().display(), format!("cannot be linked\n{}", said.trim_end()));
            return Err(error.next(if twice {
                "a kernel stands in two files: give --kernels one of them"
            } else {
                ""
            }));
        }
        fs::rename(&part, &library).map_err(|e| Error::io(&library, "write", &e))?;
    }
    let set = Set::load(&library).map_err(|why| Error::failed(sources.folder().display(), why))?;
    Ok((set, Built { units: names, compiled, seconds: began.elapsed().as_secs_f64() }))
}

/// Names of the kernels in the report of `-Xptxas=-v`.
fn kernels(log: &str) -> Vec<String> {
    let names = log.lines().filter_map(|l| l.split_once("Compiling entry function '"));
    names.filter_map(|(_, rest)| rest.split_once('\'')).map(|(name, _)| name.to_owned()).collect()
}

/// Units of a folder as machine code for an architecture (`80`, `90a`). Those that are for another
/// architecture alone (`*_sm90a.cu`) are left out.
///
/// # Errors
/// No nvcc; a source that does not compile.
pub fn for_gpu(sources: &Sources, mut units: Vec<Unit>, architecture: &str) -> Result<(Vec<Compiled>, Built)> {
    let began = Instant::now();
    let other = |name: &str| name.rsplit_once("_sm").is_some_and(|(_, own)| own.len() <= 4 && own != architecture);
    units.retain(|unit| !other(&unit.name));
    let names: Vec<String> = units.iter().map(|u| u.name.clone()).collect();
    if units.is_empty() {
        return Ok((Vec::new(), Built { units: names, compiled: 0, seconds: began.elapsed().as_secs_f64() }));
    }
    let (compiler, cache) = (Compiler::cuda()?, cache()?);
    let headers = headers(&cache)?;
    let code = format!("-gencode=arch=compute_{architecture},code=sm_{architecture}");
    let flags = ["-std=c++17", "-O3", "-lineinfo", "-cubin", &code, "-Xptxas=-v"].map(String::from);
    let (objects, compiled) = compiler.objects(&units, &flags, &headers, &cache, "cubin", sources.folder())?;
    let mut all = Vec::new();
    for (unit, object) in units.iter().zip(&objects) {
        let code = fs::read(object).map_err(|e| Error::io(object, "read", &e))?;
        let log = fs::read_to_string(object.with_extension("log")).unwrap_or_default();
        all.push(Compiled { unit: unit.path.display().to_string(), kernels: kernels(&log), code });
    }
    Ok((all, Built { units: names, compiled, seconds: began.elapsed().as_secs_f64() }))
}
