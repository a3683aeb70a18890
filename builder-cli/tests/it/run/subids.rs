//! RUN for an ordinary user with subordinate ids: the program goes on in a namespace that setuid helpers have mapped.

use std::fs;

use test_support::busybox;
use test_support::tarball::Image;
use test_support::tools::{is_root, require, skip};
use test_support::world::set_mode;

use super::image_of;

/// The user that has subordinate ids, in account files that only this test sees.
const ACCOUNTS: &str = "root:x:0:0::/:/bin/sh\nsub:x:54322:54322::/:/bin/sh\n";

/// Mounts the account files in a mount namespace, and goes on as the user.
const START: &str = "mount --make-rprivate /
for name in passwd subuid subgid; do mount --bind \"$1/$name\" \"/etc/$name\" || exit 99; done
shift
exec setpriv --reuid=54322 --regid=54322 --clear-groups \"$@\"";

const DOCKERFILE: &str = "FROM bb\nRUN <<'END'\nset -e\nmkdir /d\necho x > /d/f\nln -s f /d/l\nchown -h 5:6 /d/f /d/l\n\
    chmod 4711 /d/f\nmknod /n c 1 3\nsu app -c 'id -u > /tmp/u'\n! su app -c 'echo > /d/no'\nEND\nUSER 77:88\nRUN id -u > /tmp/n\n";

#[test]
fn an_ordinary_user_with_subordinate_ids() {
    if !is_root() {
        return skip("only root can give a user subordinate ids");
    }
    let (Some(unshare), Some(_), Some(_), Some(busybox)) = (
        require("unshare"),
        require("setpriv"),
        require("newuidmap"),
        require("busybox"),
    ) else {
        return;
    };
    let mut world = crate::world();
    busybox::base(&world.path("bb"), &busybox, busybox::MORE);
    for folder in ["home", "tmp", "out", "store"] {
        fs::create_dir_all(world.path(folder)).unwrap();
        set_mode(&world.path(folder), 0o777);
    }
    world.write("etc/passwd", ACCOUNTS);
    for name in ["subuid", "subgid"] {
        world.write(format!("etc/{name}"), "sub:200000:65536\n");
    }
    world.write("context/Dockerfile", DOCKERFILE);
    let etc = world.path("etc");
    let words = [unshare.to_str().unwrap(), "-m", "sh", "-c", START, "sh"];
    let words: Vec<&str> = words.into_iter().chain(etc.to_str()).collect();
    world.run_through(&words);
    let line = "build --progress plain --run-ids range --build-context bb=@/bb -o type=oci,dest=@/out/a.tar @/context";
    let outcome = world.line(line).exits(0);
    outcome.says("RUN is executed by userns: namespaces with all ids, overlay");
    let image = Image::open(&image_of(&world));
    let files = image.files();
    let file = &files[&b"/d/f"[..]];
    assert_eq!((file.mode, file.uid, file.gid), (0o4711, 5, 6));
    let link = &files[&b"/d/l"[..]];
    assert_eq!((link.uid, link.gid), (5, 6));
    assert_eq!(files[&b"/n"[..]].kind, "char");
    assert_eq!(
        (image.text("/tmp/u"), image.text("/tmp/n")),
        ("1234\n".into(), "77\n".into())
    );
    let own = &files[&b"/tmp/n"[..]];
    assert_eq!((own.uid, own.gid), (77, 88));
    // Nothing that the user can't delete is left in the making.
    assert_eq!(fs::read_dir(world.path("store/tmp")).unwrap().count(), 0);
    world.line("doctor --run-ids range").exits(0);
    world
        .line("build --run-ids range --run-mode none --build-context bb=@/bb @/context")
        .exits(6);
}
