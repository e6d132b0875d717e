// Names and locks on the real disk.

import Synchronization
public import UkehiEnvironment

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// The system's files. Paths are as the operator named them, relative ones to the working directory.
public final class POSIXFileSystem: FileSystem {
    private let directories = Mutex(OpenDirectories())

    public init() {}

    public func open(_ path: String, _ mode: OpenMode) throws(FileError) -> any File {
        let flags =
            switch mode {
            case .read: O_RDONLY
            case .readWrite: O_RDWR
            case .createNew: O_RDWR | O_CREAT | O_EXCL
            }
        let descriptor = retrying { Self.openat(path, flags | O_NOFOLLOW, 0o640) }
        guard descriptor >= 0 else { throw FileError.last("open", path) }
        return POSIXFile(descriptor: descriptor, path: path)
    }

    public func rename(_ source: String, to target: String) throws(FileError) {
        guard Self.rename(from: source, to: target) == 0 else {
            throw FileError.last("rename", source)
        }
    }

    public func remove(_ path: String) throws(FileError) {
        guard unlink(path) == 0 else { throw FileError.last("unlink", path) }
    }

    public func createDirectory(_ path: String) throws(FileError) {
        guard mkdir(path, 0o750) != 0 else { return }
        let error = FileError.last("mkdir", path)
        var status = stat()
        guard error.kind == .alreadyExists, stat(path, &status) == 0,
            status.st_mode & S_IFMT == S_IFDIR
        else { throw error }
    }

    public func list(_ directory: String) throws(FileError) -> [String] {
        guard let stream = opendir(directory) else { throw FileError.last("opendir", directory) }
        defer { closedir(stream) }
        var names: [String] = []
        errno = 0
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(
                    to: CChar.self, capacity: MemoryLayout.size(ofValue: entry.pointee.d_name)
                ) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
            errno = 0
        }
        guard errno == 0 else { throw FileError.last("readdir", directory) }
        return names.sorted()
    }

    public func syncDirectory(_ path: String) throws(FileError) {
        let descriptor = try directory(path)
        let result = fsync(descriptor.value)
        guard result == 0 else {
            // Whatever it says, of lack of space, say: names may be lost, and of others, too.
            var error = FileError.last("fsync", path)
            error.kind = .ioFailed
            throw error
        }
    }

    public func freeBytes(_ directory: String) -> UInt64 {
        var status = statvfs()
        guard statvfs(directory, &status) == 0 else { return .max }
        return UInt64(status.f_bavail) * UInt64(status.f_frsize)
    }

    /// The directory, open. It stays so: a name that was changed has to become durable also when no descriptor
    /// is left.
    private func directory(_ path: String) throws(FileError) -> OwnedDescriptor {
        if let open = directories.withLock({ $0.current(path) }) { return open }
        let descriptor = retrying { Self.openat(path, O_RDONLY | O_DIRECTORY, 0) }
        guard descriptor >= 0 else { throw FileError.last("open", path) }
        let open = OwnedDescriptor(descriptor)
        directories.withLock { $0.keep(open, path) }
        return open
    }

    public func exists(_ path: String) -> Bool {
        var status = stat()
        return lstat(path, &status) == 0
    }

    public func lock(_ path: String) throws(FileError) -> any FileLock {
        let descriptor = retrying { Self.openat(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0o640) }
        guard descriptor >= 0 else { throw FileError.last("open", path) }
        guard retrying({ flock(descriptor, LOCK_EX | LOCK_NB) }) == 0 else {
            let error =
                errno == EWOULDBLOCK
                ? FileError(kind: .locked, operation: "flock", path: path, errno: errno)
                : FileError.last("flock", path)
            close(descriptor)
            throw error
        }
        return POSIXFileLock(descriptor)
    }

    private static func openat(_ path: String, _ flags: Int32, _ mode: mode_t) -> Int32 {
        #if canImport(Glibc)
            Glibc.openat(AT_FDCWD, path, flags | O_CLOEXEC, mode)
        #else
            Musl.openat(AT_FDCWD, path, flags | O_CLOEXEC, mode)
        #endif
    }

    private static func rename(from source: String, to target: String) -> Int32 {
        #if canImport(Glibc)
            Glibc.rename(source, target)
        #else
            Musl.rename(source, target)
        #endif
    }
}

/// Directories that were synced, open, by path.
private struct OpenDirectories {
    /// A node syncs four.
    private static let most = 8

    private var open: [(path: String, descriptor: OwnedDescriptor)] = []

    /// The open one, unless the path leads elsewhere by now.
    mutating func current(_ path: String) -> OwnedDescriptor? {
        guard let position = open.firstIndex(where: { $0.path == path }) else { return nil }
        let found = open[position].descriptor
        var (named, opened) = (stat(), stat())
        guard stat(path, &named) == 0, fstat(found.value, &opened) == 0,
            named.st_dev == opened.st_dev, named.st_ino == opened.st_ino
        else {
            open.remove(at: position)
            return nil
        }
        return found
    }

    /// Keeps it, in the place of the one that has been there longest if there are many.
    mutating func keep(_ descriptor: OwnedDescriptor, _ path: String) {
        open.removeAll { $0.path == path }
        if open.count == Self.most { open.removeFirst() }
        open.append((path, descriptor))
    }
}

/// A `flock` on its own descriptor: it ends with the process, however that ends.
///
/// Safety: the descriptor is released under a flag that only the first caller gets.
private final class POSIXFileLock: FileLock {
    private let descriptor: Int32
    private let isHeld = Atomic<Bool>(true)

    init(_ descriptor: Int32) { self.descriptor = descriptor }

    deinit { release() }

    func release() {
        guard isHeld.exchange(false, ordering: .acquiringAndReleasing) else { return }
        // Closing alone is not enough: a child that another thread is just starting has the descriptor, too,
        // until it runs its program, and the lock lasts as long as one of them is open.
        _ = retrying { flock(descriptor, LOCK_UN) }
        close(descriptor)
    }
}

/// Repeats a call that a signal interrupted.
func retrying<R: SignedInteger>(_ call: () -> R) -> R {
    while true {
        let result = call()
        if result != -1 || errno != EINTR { return result }
    }
}

private func lastErrorNumber() -> Int32 { errno }

extension FileError {
    /// The error that the last call left in `errno`.
    static func last(_ operation: String, _ path: String) -> FileError {
        let number = lastErrorNumber()
        let kind: Kind =
            switch number {
            case ENOENT: .notFound
            case EEXIST: .alreadyExists
            case ENOSPC, EDQUOT, EFBIG: .noSpace
            case EACCES, EPERM, EROFS, ELOOP: .denied
            case EOPNOTSUPP, ENOSYS: .unsupported
            case EMFILE, ENFILE: .noDescriptor
            default: .ioFailed
            }
        return FileError(kind: kind, operation: operation, path: path, errno: number)
    }
}
