//! Makes the working copy of an example that the demo, the end-to-end tests and the bench deploy:
//! the example's own files, and a gallery of generated pictures in its static site, so that the
//! input is real (some 200 files, 20 MB) while the repository stays small.
//!
//! Promises: the same bytes on every machine and in every run; what the person at the keyboard
//! changed in the copy stays as it is, what they did not change follows the example. Never
//! writes into the example, and never overwrites a generated file that is already there.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Pictures in the gallery, each in two sizes.
const PICTURES: u32 = 90;
/// Pictures on one page of the gallery.
const PER_PAGE: u32 = 10;
/// Width and height in pixels.
const LARGE: (u32, u32) = (480, 320);
const SMALL: (u32, u32) = (120, 80);

/// What [`prepare`] did, in numbers of files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prepared {
    /// Taken over from the example, because they are new or changed there.
    pub copied: usize,
    /// Left alone, because they were changed in the copy.
    pub kept: usize,
    /// Generated pictures and pages that were missing.
    pub generated: usize,
}

/// Brings `copy` up to date with `example`, and generates what is missing of the gallery in its `portfolio`.
///
/// Beside the copy it keeps the files as they were taken over (`<copy>.taken`): what differs from
/// them is an edit, and stays; deleted files stay deleted. Where the whole copy was deleted, it begins afresh.
pub fn prepare(example: &Path, copy: &Path) -> io::Result<Prepared> {
    let taken = taken_folder(copy);
    if !copy.exists() && taken.exists() {
        fs::remove_dir_all(&taken)?;
    }
    let mut prepared = Prepared::default();
    for file in files_below(example)? {
        let (source, target, before) = (example.join(&file), copy.join(&file), taken.join(&file));
        let wanted = fs::read(&source)?;
        let (there, remembered) = (read_if_there(&target)?, read_if_there(&before)?);
        if there != remembered {
            prepared.kept += 1;
        } else if there.as_ref() != Some(&wanted) {
            write(&target, &wanted)?;
            write(&before, &wanted)?;
            prepared.copied += 1;
        }
    }
    let portfolio = copy.join("portfolio");
    if portfolio.is_dir() {
        prepared.generated = generate(&portfolio)?;
    }
    Ok(prepared)
}

/// Writes the gallery's missing files below `portfolio`; returns how many there were.
pub fn generate(portfolio: &Path) -> io::Result<usize> {
    let mut written = 0;
    for number in 1..=PICTURES {
        for (folder, (width, height)) in [("large", LARGE), ("small", SMALL)] {
            let path = portfolio.join(format!("gallery/{folder}/{number:03}.png"));
            written += usize::from(write_missing(&path, || picture(number, width, height))?);
        }
    }
    for page in 0..PICTURES.div_ceil(PER_PAGE) {
        let name = if page == 0 { "index.html".to_owned() } else { format!("{}.html", page + 1) };
        let path = portfolio.join("gallery").join(name);
        written += usize::from(write_missing(&path, || Ok(gallery_page(page).into_bytes()))?);
    }
    Ok(written)
}

fn taken_folder(copy: &Path) -> PathBuf {
    let mut name = copy.as_os_str().to_owned();
    name.push(".taken");
    PathBuf::from(name)
}

/// Regular files, relative, sorted; without what a build or an evaluation leaves behind.
fn files_below(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if ["_build", "deps", ".git"].iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            if entry.file_type()?.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, bytes)
}

/// Written beside and renamed, so that an interrupted run leaves no half picture that would count as there.
fn write_missing(path: &Path, content: impl FnOnce() -> io::Result<Vec<u8>>) -> io::Result<bool> {
    if path.exists() {
        return Ok(false);
    }
    let beside = path.with_extension("part");
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = BufWriter::new(File::create(&beside)?);
    file.write_all(&content()?)?;
    file.into_inner()?;
    fs::rename(&beside, path)?;
    Ok(true)
}

/// A landscape of soft gradients with a photograph's grain, so that it compresses as badly as a photograph.
fn picture(number: u32, width: u32, height: u32) -> io::Result<Vec<u8>> {
    let mut random = Random(u64::from(number) << 32 | u64::from(width));
    let tone: [u32; 3] = std::array::from_fn(|channel| 60 + (number * (37 + 29 * channel as u32)) % 120);
    let mut pixels = Vec::with_capacity((width * height * 3) as usize);
    for y in 0..height {
        for x in 0..width {
            let hill = (x * 5 / width * 31 + number * 17) % 48 + y * 72 / height;
            let mut grain = random.next();
            for (channel, base) in tone.iter().enumerate() {
                pixels.push((base + hill * (2 + channel as u32) / 4 + (grain & 7) as u32).min(255) as u8);
                grain >>= 3;
            }
        }
    }
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_filter(png::Filter::Sub);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(bytes)
}

fn gallery_page(page: u32) -> String {
    let first = page * PER_PAGE + 1;
    let last = (first + PER_PAGE - 1).min(PICTURES);
    let pictures: String = (first..=last)
        .map(|number| {
            let (width, height) = SMALL;
            format!(
                "<li><a href=\"/gallery/large/{number:03}.png\"><img src=\"/gallery/small/{number:03}.png\" \
                 alt=\"Picture {number}\" width=\"{width}\" height=\"{height}\" loading=\"lazy\"></a></li>\n"
            )
        })
        .collect();
    let pages = PICTURES.div_ceil(PER_PAGE);
    let links: String = (0..pages)
        .map(|other| match other {
            0 => "<a href=\"/gallery/\">1</a>\n".to_owned(),
            other => format!("<a href=\"/gallery/{0}.html\">{0}</a>\n", other + 1),
        })
        .collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n  <meta charset=\"utf-8\">\n  \
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n  \
         <title>Gallery, page {this} of {pages}</title>\n  <link rel=\"stylesheet\" href=\"/style.css\">\n</head>\n<body>\n\
         <header><strong>Gallery</strong><nav><a href=\"/\">Home</a></nav></header>\n\
         <main>\n<h1>Pictures {first} to {last}</h1>\n<ul class=\"grid\">\n{pictures}</ul>\n<p>{links}</p>\n</main>\n</body>\n</html>\n",
        this = page + 1,
    )
}

/// SplitMix64 (Steele, Lea and Flood, 2014): the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: PathBuf) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn edits_of_the_copy_stay_and_everything_else_follows_the_example() {
        let folder = tempfile::tempdir().unwrap();
        let (example, copy) = (folder.path().join("example"), folder.path().join("copy"));
        for name in ["a/edited", "deleted", "followed"] {
            write(&example.join(name), b"1").unwrap();
        }
        assert_eq!(prepare(&example, &copy).unwrap(), Prepared { copied: 3, ..Prepared::default() });
        assert_eq!(prepare(&example, &copy).unwrap(), Prepared::default());

        write(&copy.join("a/edited"), b"mine").unwrap();
        fs::remove_file(copy.join("deleted")).unwrap();
        for name in ["a/edited", "deleted", "followed"] {
            write(&example.join(name), b"2").unwrap();
        }
        assert_eq!(prepare(&example, &copy).unwrap(), Prepared { copied: 1, kept: 2, generated: 0 });
        assert_eq!(text(copy.join("a/edited")), "mine");
        assert_eq!(text(copy.join("followed")), "2");
        assert!(!copy.join("deleted").exists());
    }

    #[test]
    fn a_picture_is_a_real_png_and_the_same_every_time() {
        let bytes = picture(7, SMALL.0, SMALL.1).unwrap();
        assert_eq!(bytes, picture(7, SMALL.0, SMALL.1).unwrap());
        assert_ne!(bytes, picture(8, SMALL.0, SMALL.1).unwrap());
        let mut reader = png::Decoder::new(io::Cursor::new(&bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((frame.width, frame.height), SMALL);
    }

    #[test]
    fn the_gallery_is_real_input() {
        let folder = tempfile::tempdir().unwrap();
        let written = generate(folder.path()).unwrap();
        let sizes = files_below(folder.path()).unwrap();
        let bytes: u64 = sizes.iter().map(|file| fs::metadata(folder.path().join(file)).unwrap().len()).sum();
        assert_eq!((written, sizes.len()), (189, 189));
        assert!((18_000_000..24_000_000).contains(&bytes), "{bytes} bytes");
        assert_eq!(generate(folder.path()).unwrap(), 0);
    }
}
