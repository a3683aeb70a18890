//! Manifests, indexes and configs: what is read is written again, and a plan is made on top of any config.

#![no_main]

use builder_core::dockerfile::parse::parse;
use builder_core::oci::config::ImageConfig;
use builder_core::oci::{ImageIndex, ImageManifest};
use builder_core::plan::{self, PlanOptions};
use builder_core::platform::Platform;
use builder_core::source::SourceFile;
use libfuzzer_sys::fuzz_target;

const DOCKERFILE: &str = "FROM b\nENV X=$PATH:y\nWORKDIR z\nUSER a:b\nCMD x\n";

fuzz_target!(|data: &[u8]| {
    let platform: Platform = "linux/amd64".parse().expect("a platform");
    let _ = ImageManifest::from_bytes("x", data).map(|manifest| manifest.to_bytes());
    if let Ok(index) = ImageIndex::from_bytes("x", data) {
        let _ = index.choose(&platform);
        let _ = index.platforms();
    }
    let Ok(config) = ImageConfig::from_bytes("x", data) else {
        return;
    };
    config.platform();
    let _ = config.to_bytes();
    let file = SourceFile::new("Dockerfile", DOCKERFILE);
    let (parsed, _) = parse(&file);
    let options = PlanOptions::new(platform);
    if let (Some(graph), _) = plan::graph(&file, &parsed, &options) {
        let bases = [(0, config)].into();
        let _ = plan::lower(&file, &parsed, &graph, &bases, &options);
    }
});
