//! The program under other tools' names: scripts of docker, buildah and kaniko as they stand.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use test_support::registry::Registry;
use test_support::tarball::Image;
use test_support::world::World;

use super::built;
use crate::world;

/// A world in which the program has another name; `folder` keeps the link.
fn named(tool: &str) -> (World, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join(tool);
    symlink(env!("CARGO_BIN_EXE_rbuild"), &link).unwrap();
    let world = World::new(link.to_str().unwrap());
    world.write("context/about.txt", "hello\n");
    world.write(
        "context/Dockerfile",
        "FROM scratch\nARG A=0\nENV A=$A\nCOPY about.txt /\n",
    );
    (world, folder)
}

fn nothing_beside(world: &World) {
    let left: Vec<_> = fs::read_dir(world.path("out")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_script_of_docker_runs() {
    let registry = Registry::start();
    let name = format!("{}/team/app", registry.name());
    let (world, _folder) = named("docker");
    for line in [
        "version",
        "info",
        "buildx create --use --driver docker-container --name b",
        "buildx inspect --bootstrap",
        "build --pull --no-cache --rm --build-arg A=1 -t app:1 -f @/context/Dockerfile @/context",
        "buildx build --load --builder b --provenance=false -t app:1 @/context",
        &format!("tag app:1 {name}:1"),
        &format!("push {name}:1"),
        &format!("image push {name}:1"),
        "images",
        "image ls app",
        "history --no-trunc app:1",
        "inspect app:1",
        "image inspect --format {{.Id}} app:1",
        &format!("rmi {name}:1"),
        &format!("pull {name}:1"),
        "image rm -f app:1",
        "system prune -af",
    ] {
        world.line(line).exits(0);
    }
    nothing_beside(&world);
    assert!(registry.manifest("team/app", "1").is_some());
    let saved = world.run(["save", &format!("{name}:1")]).exits(0);
    let (other, _other_folder) = named("docker");
    other.write("out/saved.tar", &saved.stdout);
    other.line("load -i saved.tar").exits(0);
    let tags = other
        .line("images --format {{.Repository}}:{{.Tag}}")
        .exits(0);
    assert_eq!(tags.text(), format!("{name}:1\n"));
    let quiet = world.line("build -q @/context").exits(0);
    assert!(quiet.text().starts_with("sha256:"));
    for (line, said) in [
        ("ps -a", "docker ps"),
        ("exec app ls", "no containers"),
        ("compose up -d", "no services"),
        ("buildx bake", "docker buildx bake"),
        ("bulid .", "docker bulid"),
        ("--nonsense images", "--nonsense"),
        ("build --cpu-shares 2 @/context", "--cpu-shares"),
    ] {
        world.line(line).exits(2).says(said);
    }
}

#[test]
fn a_script_of_buildah_runs() {
    let registry = Registry::start();
    let name = format!("{}/app", registry.name());
    let (world, _folder) = named("buildah");
    for line in [
        "version",
        "--storage-driver vfs bud --isolation chroot --layers --tls-verify=false -t app -f @/context/Dockerfile @/context",
        "build --format docker --build-arg A=2 -t docker @/context",
        &format!("push app docker://{name}:1"),
        &format!("push --tls-verify=false --digestfile digest app {name}:2"),
        "push app oci-archive:app.tar:app:3",
        &format!("pull docker://{name}:1"),
        &format!("tag app {name}:9"),
        &format!("push {name}:9"),
        "images -q",
        "rmi -f docker",
    ] {
        world.line(line).exits(0);
    }
    let digest = fs::read_to_string(world.path("out/digest")).unwrap();
    let pushed = registry.manifest("app", "2").unwrap();
    assert_eq!(digest.trim(), test_support::tarball::digest(&pushed));
    assert_eq!(
        Image::open(&world.path("out/app.tar")).text("/about.txt"),
        "hello\n"
    );
    for (line, said) in [
        ("from alpine", "buildah from"),
        ("run c ls", "buildah run"),
        ("mount c", "buildah mount"),
        ("copy c a /b", "buildah copy"),
        ("bud -v /a:/b @/context", "--volume"),
        ("bud --tagg x @/context", "did you mean `--tag`?"),
    ] {
        world.line(line).exits(2).says(said);
    }
}

#[test]
fn a_job_of_kaniko_runs() {
    let registry = Registry::start();
    let name = registry.name();
    let (world, _folder) = named("executor");
    let common =
        "--verbosity info --cleanup --snapshot-mode=redo --use-new-run --context dir://@/context";
    let line = format!(
        "{common} --dockerfile Dockerfile --destination {name}/app:1 --destination {name}/app:latest --build-arg A=3 --cache=true --cache-repo {name}/app/cache --digest-file digest"
    );
    world.line(&line).exits(0);
    nothing_beside_but(&world, "digest");
    let pushed = registry.manifest("app", "1").unwrap();
    assert_eq!(registry.manifest("app", "latest").unwrap(), pushed);
    let digest = fs::read_to_string(world.path("out/digest")).unwrap();
    assert_eq!(digest, test_support::tarball::digest(&pushed));
    assert!(registry.manifest("app/cache", "latest").is_some());
    world
        .line(&format!(
            "{common} --no-push --tar-path app.tar --destination {name}/app:2"
        ))
        .exits(0);
    let contents = test_support::tarball::contents(&world.path("out/app.tar")).unwrap();
    assert_eq!(
        Image::docker(&contents).unwrap().text("/about.txt"),
        "hello\n"
    );
    assert!(registry.manifest("app", "2").is_none());
    world
        .line(&format!("{common} --no-push --oci-layout-path layout"))
        .exits(0);
    assert!(world.path("out/layout/index.json").exists());
    world
        .line("--context @/ --context-sub-path context --no-push --reproducible")
        .exits(0);
    for (line, said) in [
        (common.to_owned(), "--destination"),
        (
            "--context s3://bucket/x --no-push".to_owned(),
            "s3://bucket/x",
        ),
        (
            format!("{common} --no-push --single-snapshot"),
            "--single-snapshot",
        ),
        (format!("{common} --no-push --cache"), "--cache-repo"),
        ("build".to_owned(), "flags alone"),
    ] {
        world.line(&line).exits(2).says(said);
    }
}

fn nothing_beside_but(world: &World, name: &str) {
    let left = fs::read_dir(world.path("out")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [name]);
}

#[test]
fn kaniko_is_a_word_of_rbuild_too_and_a_directory_is_still_one() {
    let (world, _) = built();
    world.line("kaniko --context @/context --no-push").exits(0);
    let other = world_with_directory();
    other.line("kaniko").exits(0);
}

fn world_with_directory() -> World {
    let other = world();
    other.write(Path::new("out/kaniko/Dockerfile"), "FROM scratch\n");
    other
}
