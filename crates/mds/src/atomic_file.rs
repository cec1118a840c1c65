//! A file that appears whole or not at all.
//!
//! It is written under a temporary name beside its target, synced, and renamed. Whoever reads the
//! target meanwhile sees the old content; after an error or a signal the old content is still there
//! and the temporary file is gone. The mode of the file that is replaced is kept.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::NamedTempFile;

use crate::exit::Usage;

/// A file on its way to its target.
#[derive(Debug)]
pub(crate) struct AtomicFile {
    temporary: NamedTempFile,
    target: PathBuf,
}

impl AtomicFile {
    /// Starts writing what is to become `target`; a file that exists there is replaced at the end.
    pub(crate) fn create(target: &Path) -> anyhow::Result<Self> {
        Self::with_mode(target, |target| {
            fs::metadata(target).ok().map(|old| old.permissions())
        })
    }

    /// The same for a file that is for its owner alone, whatever the mode of an older one.
    pub(crate) fn create_private(target: &Path) -> anyhow::Result<Self> {
        Self::with_mode(target, |_| {
            #[cfg(unix)]
            let mode = Some(std::os::unix::fs::PermissionsExt::from_mode(0o600));
            #[cfg(not(unix))]
            let mode = None;
            mode
        })
    }

    fn with_mode(
        target: &Path,
        mode: impl FnOnce(&Path) -> Option<Permissions>,
    ) -> anyhow::Result<Self> {
        // The file that a link points to is replaced, not the link.
        let target = match fs::canonicalize(target) {
            Ok(existing) if !existing.is_file() => {
                let what = "is not a regular file; use - for standard output";
                return Err(Usage::new(format!("{} {what}", target.display())).into());
            }
            Ok(existing) => existing,
            Err(_) => target.to_path_buf(),
        };
        let folder = folder_of(&target);
        let mode = mode(&target);
        let temporary = builder(mode.clone())
            .tempfile_in(folder)
            .with_context(|| format!("cannot create a file in {}", folder.display()))?;
        if let Some(mode) = mode {
            // The umask may have taken away more than the file should have.
            let path = temporary.path().display();
            let kept = temporary.as_file().set_permissions(mode);
            kept.with_context(|| format!("cannot give {path} the mode of the finished file"))?;
        }
        Ok(Self { temporary, target })
    }

    /// Makes the file durable and gives it its name.
    pub(crate) fn commit(self) -> anyhow::Result<()> {
        let Self { temporary, target } = self;
        temporary
            .as_file()
            .sync_all()
            .with_context(|| format!("cannot sync {}", temporary.path().display()))?;
        temporary
            .persist(&target)
            .map_err(|e| e.error)
            .with_context(|| format!("cannot rename the finished file to {}", target.display()))?;
        let folder = folder_of(&target);
        // A rename is durable once its folder is.
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .with_context(|| format!("cannot sync the folder {}", folder.display()))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.temporary.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.flush()
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes files that nobody else may read who may not read `old`, from their first byte on.
fn builder(old: Option<Permissions>) -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".mds-").suffix(".tmp");
    match old {
        Some(old) => builder.permissions(old),
        // What a plain `open` would give: the umask takes away what it always does.
        #[cfg(unix)]
        None => builder
            .permissions(<Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o666)),
        #[cfg(not(unix))]
        None => &mut builder,
    };
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_content_stays_until_the_new_one_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out.csv");
        fs::write(&target, "old").unwrap();

        let mut abandoned = AtomicFile::create(&target).unwrap();
        abandoned.write_all(b"half").unwrap();
        drop(abandoned);
        assert_eq!(fs::read_to_string(&target).unwrap(), "old");

        let mut file = AtomicFile::create(&target).unwrap();
        file.write_all(b"new").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "old");
        file.commit().unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_never_replaced() {
        let error = AtomicFile::create(Path::new("/dev/null")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/dev/null is not a regular file; use - for standard output"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("real.csv"), "old").unwrap();
        let link = dir.path().join("link.csv");
        std::os::unix::fs::symlink("real.csv", &link).unwrap();

        let mut file = AtomicFile::create(&link).unwrap();
        file.write_all(b"new").unwrap();
        file.commit().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(
            fs::read_to_string(dir.path().join("real.csv")).unwrap(),
            "new"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_private_file_is_so_whatever_was_there() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("marks.json");
        fs::write(&target, "old").unwrap();
        fs::set_permissions(&target, Permissions::from_mode(0o644)).unwrap();

        let file = AtomicFile::create_private(&target).unwrap();
        file.commit().unwrap();
        let mode = fs::metadata(&target).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
