//! Blocks: the pieces of a tar that are compressed each for itself.
//!
//! A block's border depends on names and sizes only, never on content, threads or time; so two tars that differ in one
//! file have all but a few blocks in common, and a later build can take these from an older blob as they are. The
//! rule, in the order in which it is asked before each entry (its headers, bytes and padding taken together):
//!
//! 1. an entry larger than [`MAX`] begins a block and is cut every [`MAX`] bytes from its own start; what is left at
//!    its end is joined by what follows;
//! 2. an entry that would make its block larger than [`MAX`] begins a block;
//! 3. an entry whose path's hash is a multiple of 32 begins a block if the one before it has at least [`MIN`] bytes;
//! 4. the zeros at the end of the tar are a block.
//!
//! The hash is 32-bit FNV-1a of the path without leading `/`, its high half folded into its low half.

/// The least length of a block that rule 3 ends, in bytes.
pub const MIN: usize = 256 * 1024;

/// The greatest length of a block, in bytes.
pub const MAX: usize = 1024 * 1024;

/// What [`starts_block`] answers with "yes", one in so many.
const ONE_IN: u32 = 32;

/// Whether the path of an entry chooses it as the first of a block, by rule 3.
fn chosen(path: &[u8]) -> bool {
    let hash = path.iter().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    (hash ^ (hash >> 16)).is_multiple_of(ONE_IN)
}

/// Whether an entry of `length` bytes in the tar begins a block, where `filled` bytes are in the one before it.
pub fn starts_block(path: &[u8], length: u64, filled: usize) -> bool {
    filled > 0 && (filled as u64 + length > MAX as u64 || (filled >= MIN && chosen(path)))
}

/// Length of one sample in bytes.
const SAMPLE: usize = 4096;
/// Fixed-point digits of [`information`].
const SCALE: u32 = 16;

/// Whether a block's bytes look random, so that compressing them would be in vain: each of four samples of 4 KiB has
/// more than 7.90 bits of entropy a byte, and their mean is more than 7.93. Blocks below 64 KiB are always tried.
/// Integers only: the answer decides bytes, and must be the same on every machine.
pub fn looks_random(block: &[u8]) -> bool {
    if block.len() < 16 * SAMPLE {
        return false;
    }
    // The first bytes may be a header, which would speak for the whole.
    let step = (block.len() - 2 * SAMPLE) / 3;
    let mut total = 0;
    for sample in 0..4 {
        let entropy = entropy(&block[SAMPLE + sample * step..][..SAMPLE]);
        if entropy <= (790 << SCALE) / 100 {
            return false;
        }
        total += entropy;
    }
    total > ((4 * 793) << SCALE) / 100
}

/// Bits of entropy a byte, with [`SCALE`] binary digits after the point.
fn entropy(sample: &[u8]) -> u64 {
    let mut counts = [0_u32; 256];
    for byte in sample {
        counts[usize::from(*byte)] += 1;
    }
    let sum: u64 = counts
        .iter()
        .map(|count| u64::from(*count) * log2(*count))
        .sum();
    let length = sample.len() as u64;
    log2(length as u32).saturating_sub(sum / length)
}

/// The binary logarithm with [`SCALE`] digits after the point; 0 for 0.
fn log2(value: u32) -> u64 {
    if value < 2 {
        return 0;
    }
    let whole = value.ilog2();
    let mut result = u64::from(whole) << SCALE;
    let mut mantissa = u64::from(value) << (31 - whole);
    for digit in (0..SCALE).rev() {
        mantissa = (mantissa * mantissa) >> 31;
        if mantissa >= 1 << 32 {
            mantissa >>= 1;
            result |= 1 << digit;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_right_to_a_thousandth() {
        for value in [1, 2, 3, 5, 16, 17, 100, 4096] {
            let exact = f64::from(value).log2();
            #[expect(clippy::cast_precision_loss, reason = "a test of small numbers")]
            let ours = log2(value) as f64 / 65536.0;
            assert!((exact - ours).abs() < 0.001, "{value}: {exact} {ours}");
        }
    }

    #[test]
    fn tells_random_bytes_from_others() {
        let mut state = 1_u64;
        let random: Vec<u8> = (0..MAX)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        assert!(looks_random(&random));
        assert!(!looks_random(&vec![0; MAX]));
        let text: Vec<u8> = random.iter().map(|byte| byte & 0x7f).collect();
        assert!(!looks_random(&text));
        assert!(!looks_random(&random[..1000]));
    }

    #[test]
    fn about_one_path_in_thirty_two_begins_a_block() {
        let count = (0..32_000)
            .filter(|number| {
                starts_block(
                    format!("src/dir{}/file{number}.rs", number % 77).as_bytes(),
                    1,
                    MIN,
                )
            })
            .count();
        assert!((800..1200).contains(&count), "{count}");
        assert!(!starts_block(b"x", 10 << 20, 0));
        assert!(starts_block(b"x", 10 << 20, 1));
    }
}
