//! Cache mounts are known by their ids and by what they begin with.

use std::fs;

use test_support::world::World;

use super::{Way, in_each_way};

/// Fields of a cache mount, and which cache it is.
const ROWS: &[(&str, &str)] = &[
    ("", "a"),
    ("mode=0755", "a"),
    ("uid=0,gid=0", "a"),
    ("sharing=locked", "a"),
    ("uid=1000", "b"),
    ("uid=1000,mode=755,sharing=private", "b"),
    ("gid=1000", "c"),
    ("uid=1000,gid=1000", "d"),
    ("mode=0700", "e"),
    ("mode=0777,uid=1000", "f"),
    ("from=files", "g"),
    ("from=files,source=/", "g"),
    ("from=files,source=/sub", "h"),
    ("from=files,uid=1000", "i"),
    ("from=same,source=/sub", "h"),
    ("id=other", "j"),
    ("id=other,uid=1000", "k"),
];

/// A RUN that says which caches it was before, and names this one.
fn line((fields, name): &(&str, &str)) -> String {
    let comma = if fields.is_empty() { "" } else { "," };
    format!(
        "RUN --mount=type=cache,target=/c{comma}{fields} cat /c/is-* >> /seen 2>&-; echo {name} > /c/is-{name}; echo . >> /seen\n"
    )
}

fn world_of(way: Way) -> World {
    let world = way.world();
    for folder in ["files", "same"] {
        world.write(format!("{folder}/sub/x"), "x");
    }
    world
}

const FLAGS: &str =
    "--build-context files=@/files --build-context same=@/same -o type=local,dest=@/out/tree";

/// What the RUNs of a Dockerfile said, an item each.
fn seen(way: Way, world: &World, lines: &str) -> Result<Vec<String>, String> {
    let _ = fs::remove_dir_all(world.path("out/tree"));
    let dockerfile = format!("FROM bb\n{lines}");
    let outcome = way.start(world, &dockerfile, FLAGS).wait();
    if outcome.status != 0 {
        return Err(outcome.stderr);
    }
    let text = fs::read_to_string(world.path("out/tree/seen")).unwrap();
    let parts = text
        .split(".\n")
        .map(|part| part.replace('\n', " ").trim().to_owned());
    let mut parts: Vec<String> = parts.collect();
    parts.pop();
    Ok(parts)
}

#[test]
fn another_beginning_is_another_cache() {
    in_each_way(|way| {
        let world = world_of(way);
        let mut found = Vec::new();
        let lines: String = ROWS.iter().map(line).collect();
        let mut before: Vec<&str> = Vec::new();
        let expected: Vec<String> = ROWS
            .iter()
            .map(|(_, name)| {
                let known = before.contains(name);
                before.push(name);
                if known {
                    (*name).to_owned()
                } else {
                    String::new()
                }
            })
            .collect();
        match seen(way, &world, &lines) {
            Err(error) => return vec![error],
            Ok(seen) if seen != expected => found.push(format!("{seen:?}, not {expected:?}")),
            Ok(_) => {}
        }
        // Another build finds each of them again, and lists them.
        let again = format!("{lines}# again\nRUN true\n").replace("RUN --", "ENV A=1\nRUN --");
        let names: Vec<String> = ROWS.iter().map(|(_, name)| (*name).to_owned()).collect();
        match seen(way, &world, &again) {
            Err(error) => found.push(error),
            Ok(seen) if seen != names => found.push(format!("again {seen:?}")),
            Ok(_) => {}
        }
        let listed = world.line("cache ls").exits(0);
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        for words in [
            "/c\n",
            "/c (owner 1000:0)\n",
            "/c (mode 700)\n",
            "other (owner 1000:0)\n",
        ] {
            if !listed.contains(words) {
                found.push(format!("`cache ls` says nothing of {words}: {listed}"));
            }
        }
        // What `from` names is another one: so is the cache.
        world.write("files/sub/x", "y");
        let one = line(&("from=files,source=/sub", "new"));
        match seen(way, &world, &one) {
            Ok(seen) if seen == [""] => {}
            other => found.push(format!("after a change {other:?}")),
        }
        world.line("prune --all").exits(0);
        let left = world.line("cache ls").exits(0).stdout;
        if String::from_utf8_lossy(&left).contains("mount ") {
            found.push("a cache mount survives `prune --all`".to_owned());
        }
        found
    });
}

#[test]
fn caches_of_one_id_travel_side_by_side() {
    in_each_way(|way| {
        let world = world_of(way);
        let rows = [
            ("id=k", "a"),
            ("id=k,uid=1000", "b"),
            ("id=k,mode=700", "c"),
            ("id=k,from=files,source=/sub", "d"),
            ("id=other", "e"),
        ];
        let lines: String = rows.iter().map(line).collect();
        let dockerfile = format!("FROM bb\n{lines}RUN cat /seen\n");
        let mut found = Vec::new();
        // The next machine has other caches of these ids than the shared one carries: nothing of `other`.
        for (machine, flags, expected) in [
            (
                "one",
                "--cache-to type=local,dest=@/out/shared,mode=max,mounts=k",
                ".....",
            ),
            (
                "two",
                "--no-cache --cache-from type=local,src=@/out/shared,mounts=k",
                "a.b.c.d..",
            ),
        ] {
            let flags = format!("--root @/out/{machine} {flags} {FLAGS}");
            let _ = fs::remove_dir_all(world.path("out/tree"));
            let outcome = way.start(&world, &dockerfile, &flags).wait();
            if outcome.status != 0 {
                return vec![outcome.stderr];
            }
            let seen = fs::read_to_string(world.path("out/tree/seen")).unwrap();
            if seen.replace('\n', "") != expected {
                found.push(format!("{machine}: {seen}"));
            }
        }
        let listed = world.line("cache ls --root @/out/shared").exits(0).stdout;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        for words in ["k (", "k (owner 1000:0,", "k (mode 700,"] {
            if !listed.contains(words) {
                found.push(format!("`cache ls` says nothing of {words}: {listed}"));
            }
        }
        found
    });
}

/// The two lines of two projects on one machine.
#[test]
fn a_users_cache_is_not_that_of_root() {
    in_each_way(|way| {
        let world = world_of(way);
        let lines = "RUN --mount=type=cache,target=/c touch /c/of-root\n\
            USER 1000\n\
            RUN --mount=type=cache,target=/c,uid=1000 touch /c/mine && ls /c > /tmp/list\n\
            RUN cat /tmp/list\n";
        let dockerfile = format!("FROM bb\n{lines}");
        let outcome = way
            .start(&world, &dockerfile, "-o type=local,dest=@/out/tree")
            .wait();
        if outcome.status != 0 {
            return vec![outcome.stderr];
        }
        let list = fs::read_to_string(world.path("out/tree/tmp/list")).unwrap();
        if list == "mine\n" {
            Vec::new()
        } else {
            vec![list]
        }
    });
}
