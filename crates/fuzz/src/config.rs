//! Image configurations.

use oci::{ConfigError, ImageConfig};

/// Parses `data` as an image configuration. What is read survives being written and read again.
pub fn config(data: &[u8]) {
    let config = match ImageConfig::parse(data) {
        Ok(config) => config,
        Err(error) => {
            let ConfigError::Malformed(source) = &error else {
                assert!(!error.to_string().is_empty());
                return;
            };
            assert!(!source.to_string().is_empty());
            return;
        }
    };
    let again = ImageConfig::parse(&config.to_bytes()).expect("what was written is read");
    assert_eq!(again, config);
    assert_eq!(again.to_bytes(), config.to_bytes());
    assert_eq!(
        config.chain_id().is_some(),
        !config.rootfs.diff_ids.is_empty()
    );
    let platform = config.platform();
    assert!(platform.serves(&platform), "{platform:?} serves itself");
}
