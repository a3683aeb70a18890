//! Who and where a command is: its groups, its host's name, the namespace of its caches, the root that it finds.

use test_support::tarball::Image;

use super::{Way, image_of, in_each_way};

/// Whether the file of a process shows the ids that are played: where each open is the supervisor's, or ids are real.
fn shows_status(way: Way) -> bool {
    way.has_all_ids() || way.name.ends_with("paths")
}

#[test]
fn the_groups_of_a_process_are_those_of_its_user() {
    const FILE: &str = "FROM bb\nRUN echo wheel:x:10:root >> /etc/group\n\
        RUN id -G > /tmp/a; grep -e Uid -e Groups /proc/self/status > /tmp/b\n\
        USER 1200:1201\nRUN id -G > /tmp/c; grep -e Uid -e Groups /proc/self/status > /tmp/d\n\
        USER root\nRUN su app -c 'grep -e Uid -e Groups /proc/self/status' > /tmp/e; cat /proc/thread-self/status | grep Groups > /tmp/f\n";
    in_each_way(|way| {
        let world = way.world();
        way.build(&world, FILE, "").exits(0);
        let image = Image::open(&image_of(&world));
        let status = |uid: u32, groups: &str| {
            format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\nGroups:\t{groups} \n")
        };
        let mut rows = vec![
            ("/tmp/a", "0 10\n".to_owned()),
            ("/tmp/c", "1201\n".to_owned()),
        ];
        if shows_status(way) {
            rows.extend([
                ("/tmp/b", status(0, "0 10")),
                ("/tmp/d", status(1200, "1201")),
                ("/tmp/e", status(1234, "2345 3456")),
                ("/tmp/f", "Groups:\t0 10 \n".to_owned()),
            ]);
        }
        let wrong = rows.into_iter().filter_map(|(path, expected)| {
            let found = image.text(path);
            (found != expected).then(|| format!("{path}: {found:?} instead of {expected:?}"))
        });
        wrong.collect()
    });
}

#[test]
fn a_build_argument_names_the_host() {
    in_each_way(|way| {
        let world = way.world();
        let file = "FROM bb\nRUN hostname > /tmp/h; grep box.example /etc/hosts | wc -l > /tmp/n\n";
        let argument = "--build-arg BUILDKIT_SANDBOX_HOSTNAME=box.example";
        way.build(&world, file, argument).exits(0);
        let image = Image::open(&image_of(&world));
        let mut found = Vec::new();
        if way.has_own_host_name() && image.text("/tmp/h") != "box.example\n" {
            found.push(image.text("/tmp/h"));
        }
        if image.text("/tmp/n") != "1\n" {
            found.push(format!("/etc/hosts: {}", image.text("/tmp/n")));
        }
        let refused = format!("{argument},other");
        let outcome = way.start(&world, file, &refused).wait();
        if outcome.status != 3 || !outcome.stderr.contains("can't be a host's name") {
            found.push(outcome.stderr);
        }
        found
    });
}

#[test]
fn a_namespace_keeps_caches_apart() {
    in_each_way(|way| {
        let world = way.world();
        let file = "FROM bb\nRUN --mount=type=cache,target=/c echo $RANDOM >> /c/n; wc -l < /c/n > /tmp/n\n";
        let mut found = Vec::new();
        for (namespace, expected) in [("", 1), ("a", 1), ("b", 1), ("a", 2), ("", 2)] {
            let argument = match namespace {
                "" => String::new(),
                name => format!("--build-arg BUILDKIT_CACHE_MOUNT_NS={name}"),
            };
            way.build(&world, file, &format!("--no-cache {argument}"))
                .exits(0);
            let lines = Image::open(&image_of(&world)).text("/tmp/n");
            if lines.trim() != expected.to_string() {
                found.push(format!(
                    "`{namespace}`: {lines:?} lines instead of {expected}"
                ));
            }
        }
        found
    });
}

#[test]
fn each_command_finds_the_root_that_the_layers_make() {
    const FILE: &str = "FROM bb\nRUN touch /x; stat -c %Y / > /tmp/now\nRUN stat -c %Y / > /tmp/a; mkdir /d\n\
        COPY f /\nRUN stat -c %Y / > /tmp/b; rm /f\nRUN stat -c %Y / > /tmp/c; chmod 700 /; chown 5 /\n\
        RUN stat -c '%a %u' / > /tmp/d\n";
    in_each_way(|way| {
        let world = way.world();
        world.write("context/f", "f");
        way.build(&world, FILE, "").exits(0);
        let image = Image::open(&image_of(&world));
        let texts = ["a", "b", "c", "d"].map(|name| image.text(&format!("/tmp/{name}")));
        let expected = ["0\n", "0\n", "0\n", "700 5\n"];
        let wrong = texts != expected || image.text("/tmp/now") == "0\n";
        wrong.then(|| format!("{texts:?}")).into_iter().collect()
    });
}
