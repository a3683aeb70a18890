//! `images`, `tag`, `rmi`, `inspect`, `history`.

use serde_json::Value;

use super::{built, listed};
use crate::world;

const NAMES: &str = "{{.Repository}}:{{.Tag}}";

#[test]
fn the_table_is_the_one_that_people_know() {
    let (world, digest) = built();
    let short = &digest[7..19];
    let table = world.line("images").exits(0);
    let lines: Vec<&str> = table.text().lines().collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    );
    let row = lines[1].split_whitespace().take(3).collect::<Vec<_>>();
    assert_eq!(row, ["app", "1", short]);
    assert!(lines[1].contains("ago"), "{}", lines[1]);
    // Each title stands above its column.
    assert_eq!(lines[0].find("IMAGE ID"), lines[1].find(short));

    world.line("tag app:1 r.example.com/team/app").exits(0);
    assert_eq!(
        listed(&world, NAMES),
        ["app:1", "r.example.com/team/app:latest"]
    );
    for (line, expected) in [
        ("images -q", format!("{short}\n")),
        ("images -q --no-trunc", format!("{digest}\n")),
        ("images app -q", format!("{short}\n")),
        ("images docker.io/library/app:1 -q", format!("{short}\n")),
        ("images app:2 -q", String::new()),
        ("images --filter reference=*/*/app -q", format!("{short}\n")),
        (
            "images --filter label=com.example.kind -q",
            format!("{short}\n"),
        ),
        (
            "images --filter label=com.example.kind=no -q",
            String::new(),
        ),
        ("images --filter dangling=true -q", String::new()),
        ("images --filter since=app:1 -q", String::new()),
        ("image ls app --format {{.ID}}", format!("{short}\n")),
    ] {
        assert_eq!(world.line(line).exits(0).text(), expected, "{line}");
    }
    let json = world.line("images app --format json").exits(0);
    let json: Value = serde_json::from_str(json.text()).unwrap();
    assert_eq!(
        (&json["Repository"], &json["Tag"]),
        (&"app".into(), &"1".into())
    );
    assert!(
        world
            .line("images --digests")
            .exits(0)
            .text()
            .contains(&digest)
    );
    for (line, said) in [
        ("images --filter size=1", "reference="),
        ("images --filter before=nothing", "not in the store"),
        ("images --format {{.Repositry}}", ".Repository"),
    ] {
        world.line(line).exits(2).says(said);
    }
}

#[test]
fn an_image_without_a_name_is_there_for_who_asks() {
    let (world, first) = built();
    world.write("context/about.txt", "changed\n");
    world.line("-q -t app:1 @/context").exits(0);
    assert_eq!(listed(&world, NAMES), ["app:1"]);
    let all = world
        .line("images -a --no-trunc --format {{.Repository}}={{.ID}}")
        .exits(0);
    assert!(
        all.text().contains(&format!("<none>={first}\n")),
        "{}",
        all.text()
    );
    let dangling = world
        .line("images -q --no-trunc --filter dangling=true")
        .exits(0);
    assert_eq!(dangling.text(), format!("{first}\n"));
    // By its digest, or the beginning of it, it gets a name.
    world.run(["tag", &first[7..20], "old"]).exits(0);
    assert_eq!(listed(&world, NAMES), ["app:1", "old:latest"]);
    world.line("inspect old").exits(0);
}

#[test]
fn names_go_and_what_nothing_else_needs() {
    let (world, digest) = built();
    world.line("tag app:1 app:2").exits(0);
    let removed = world.line("rmi app:1").exits(0);
    assert_eq!(removed.text(), "Untagged: app:1\n");
    world.line("inspect app:2").exits(0);
    // By its digest it has one name left, and that is its last.
    let removed = world.run(["rmi", &digest]).exits(0);
    assert_eq!(
        removed.text(),
        format!("Untagged: app:2\nDeleted: {digest}\n")
    );
    assert_eq!(listed(&world, NAMES), [""; 0]);
    world
        .run(["inspect", &digest])
        .exits(2)
        .says("not in the store");
    // The next build finds its steps in the cache.
    let again = world.line("--progress plain -t app:1 @/context").exits(0);
    assert!(
        again.stderr.contains("CACHED") || again.stderr.contains("cached"),
        "{}",
        again.stderr
    );

    world.line("tag app:1 other").exits(0);
    let refused = world.run(["rmi", &digest]).exits(2);
    refused.says("other:latest").says("--force");
    world.line("rmi nothing app:1").exits(2).says("nothing");
    assert_eq!(
        listed(&world, NAMES).len(),
        2,
        "a mistyped name removes none"
    );
    world.line("rmi -f nothing").exits(0);
    world.run(["rmi", "-f", &digest[..20]]).exits(0);
    assert_eq!(listed(&world, NAMES), [""; 0]);
}

#[test]
fn an_image_that_a_build_uses_keeps_its_bytes() {
    let (world, digest) = built();
    let lock = std::fs::File::open(world.path("store/locks/use")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockShared).unwrap();
    world.line("rmi app:1").exits(0).says("prune");
    world.run(["inspect", &digest]).exits(0);
    drop(lock);
    world.run(["rmi", &digest]).exits(0);
    world.run(["inspect", &digest]).exits(2);
}

#[test]
fn what_is_asked_for_by_a_wrong_name_is_said_to_be_missing_and_what_is_near() {
    let (world, digest) = built();
    world.line("tag app:1 application:2").exits(0);
    for (asked, said) in [
        ("ap:1", "did you mean `app:1`?"),
        ("app", "there is `app:1`"),
        ("aplication:2", "did you mean `application:2`?"),
        ("entirely/else", "rbuild pull entirely/else"),
        ("App", "did you mean `app:1`?"),
        ("sha256:0000", "rbuild images"),
        ("", "rbuild images"),
        ("what is this", "rbuild images"),
    ] {
        for command in ["inspect", "history", "rmi"] {
            world.run([command, asked]).exits(2).says(said);
        }
        world.run(["tag", asked, "x"]).exits(2).says(said);
    }
    // What begins with so few digits may be several.
    let other = world.line("-q -t other --label a=b @/context").exits(0);
    let common = digest[7..]
        .bytes()
        .zip(other.text().trim()[7..].bytes())
        .take_while(|(one, other)| one == other)
        .count();
    if common > 0 {
        world
            .run(["inspect", &digest[7..7 + common]])
            .exits(2)
            .says("2 images begin");
    }
    world.run(["inspect", &format!("app@{digest}")]).exits(0);
    world.run(["tag", "app:1", &digest]).exits(2).says("digest");
    world.run(["tag", "app:1", "UP"]).exits(2).says("`up`");
}

#[test]
fn inspect_is_the_document_of_docker() {
    let (world, digest) = built();
    let document = world.line("inspect app:1").exits(0);
    let document: Value = serde_json::from_str(document.text()).unwrap();
    let image = &document[0];
    assert_eq!(image["Id"], digest.as_str());
    assert_eq!(image["RepoTags"][0], "app:1");
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 1);
    assert!(image["Size"].as_u64().unwrap() > 100);
    for (template, expected) in [
        ("{{json .Config.Cmd}}", r#"["/app","\u003cx\u003e"]"#),
        ("{{.Os}}/{{.Config.User}}", "linux/"),
        ("{{index .Config.Labels \"com.example.kind\"}}", "test"),
        (
            "{{range .Config.Env}}{{println .}}{{end}}",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nA=1\nB=2\n",
        ),
        (
            "{{range $p, $_ := .Config.ExposedPorts}}{{$p}}{{end}}",
            "80/tcp",
        ),
        ("{{index .RepoTags 0}} {{len .RootFS.Layers}}", "app:1 1"),
        ("{{.Config.Entrypoint}}", "<no value>"),
    ] {
        let made = world.run(["inspect", "-f", template, "app:1"]).exits(0);
        let lines: Vec<&str> = made
            .text()
            .lines()
            .filter(|line| line.contains('=') || !line.is_empty())
            .collect();
        let wanted: Vec<&str> = expected.lines().collect();
        assert_eq!(lines, wanted, "{template}");
    }
    world
        .run(["inspect", "-f", "{{.Confg}}", "app:1"])
        .exits(2)
        .says(".Config");
    world.line("inspect --platform linux/s390x app:1").exits(0);
}

#[test]
fn history_has_a_line_an_instruction() {
    let (world, digest) = built();
    let made = world.line("history app:1").exits(0);
    let lines: Vec<&str> = made.text().lines().collect();
    assert_eq!(lines.len(), 6, "{}", made.text());
    assert!(lines[0].starts_with("IMAGE") && lines[0].contains("CREATED BY"));
    assert!(lines[1].starts_with(&digest[7..19]) && lines[1].contains("CMD"));
    assert!(lines[5].starts_with("<missing>") && lines[5].contains("COPY about.txt /"));
    assert!(!lines[5].contains("0B") && lines[1].contains("0B"));
    let made = world.run([
        "history",
        "--no-trunc",
        "--format",
        "{{.ID}} {{.Size}}",
        "-H=false",
        "app:1",
    ]);
    let made = made.exits(0);
    assert!(
        made.text().starts_with(&format!("{digest} 0\n")),
        "{}",
        made.text()
    );
    let made = world.line("history -q app:1").exits(0);
    assert_eq!(made.text().lines().count(), 5);
}

#[test]
fn a_store_that_is_damaged_is_listed_all_the_same() {
    let (world, digest) = built();
    world.line("tag app:1 app:2").exits(0);
    std::fs::write(
        world.path(format!("store/blobs/sha256/{}", &digest[7..])),
        "{}",
    )
    .unwrap();
    assert_eq!(listed(&world, NAMES), ["app:1", "app:2"]);
    world.line("inspect app:1").exits(7).says("damaged");
    world.line("history app:1").exits(7).says("damaged");
    world.line("rmi app:1 app:2").exits(0);
    assert_eq!(listed(&world, NAMES), [""; 0]);
}

#[test]
fn a_misspelt_command_is_said_to_be_one() {
    let world = world();
    for (line, said) in [
        ("bulid -t x .", "`rbuild build`"),
        ("histroy app", "`rbuild history`"),
        ("ps", "no containers"),
        ("compose up", "no services"),
    ] {
        world
            .line(line)
            .exits(2)
            .says("there is no command")
            .says(said);
    }
    world.write("out/bulid/Dockerfile", "FROM scratch\n");
    world.line("-t x bulid").exits(0);
    world.line("bulid").exits(0);
}
