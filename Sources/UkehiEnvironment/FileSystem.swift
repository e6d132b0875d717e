// Files as the engine uses them: whole-file names in one directory tree, positioned reads and
// writes, explicit durability of data and of names. UkehiPOSIX implements it on the real disk, the
// simulator on one that crashes, tears, lies and fails. All calls block the calling thread.

/// What failed at the disk, as an operator needs it.
public struct FileError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The kinds that callers treat differently.
    public enum Kind: Sendable, Hashable {
        case notFound
        case alreadyExists
        /// No space, or a quota.
        case noSpace
        /// Another process holds the lock.
        case locked
        case unsupported
        case denied
        /// The process, or the system, has no file descriptor left: nothing was done.
        case noDescriptor
        /// Anything else, a failed sync included: the file's state is unknown.
        case ioFailed
    }
    public var kind: Kind
    /// The call, as `pwrite`, `fdatasync`, `rename`.
    public var operation: String
    /// The path relative to what the operator named.
    public var path: String
    /// The system's error number, 0 where there is none.
    public var errno: Int32

    public init(kind: Kind, operation: String, path: String, errno: Int32 = 0) {
        self.kind = kind
        self.operation = operation
        self.path = path
        self.errno = errno
    }
    /// Whether it is for want of something that may be there again later, and nothing was done.
    package var isShortage: Bool { kind == .noSpace || kind == .noDescriptor }

    public var description: String { "\(operation) of \(path) failed: \(kind), errno \(errno)" }
}

/// How a file is opened.
public enum OpenMode: Sendable, Hashable {
    case read
    case readWrite
    /// Created for reading and writing; ``FileError/Kind/alreadyExists`` if the name is taken.
    case createNew
}

/// Names and their durability. Implementations are thread-safe.
///
/// A created, renamed or removed name is durable only after ``syncDirectory(_:)`` of its directory
/// (TESTING.md R4 of the field: every name change is followed by one before anything relies on it).
public protocol FileSystem: AnyObject, Sendable {
    /// Opens a file; symbolic links in the last component are not followed.
    func open(_ path: String, _ mode: OpenMode) throws(FileError) -> any File
    /// Replaces `target` by `source` atomically.
    func rename(_ source: String, to target: String) throws(FileError)
    func remove(_ path: String) throws(FileError)
    /// Creates a directory; succeeds if it is there.
    func createDirectory(_ path: String) throws(FileError)
    /// The names in a directory, sorted.
    func list(_ directory: String) throws(FileError) -> [String]
    /// Makes the directory's names durable.
    func syncDirectory(_ path: String) throws(FileError)
    func exists(_ path: String) -> Bool
    /// Bytes that the directory's volume has free for this process, as far as that is known; looking takes
    /// nothing of it, as trying would for a moment.
    func freeBytes(_ directory: String) -> UInt64
    /// Takes an exclusive lock that ends with the process or the returned token;
    /// ``FileError/Kind/locked`` if another holder is alive.
    func lock(_ path: String) throws(FileError) -> any FileLock
}

extension FileSystem {
    public func freeBytes(_ directory: String) -> UInt64 { .max }
}

/// Holds a lock until released.
public protocol FileLock: AnyObject, Sendable {
    func release()
}

/// One open file. Reads and writes at distinct offsets may run on several threads at once.
public protocol File: AnyObject, Sendable {
    /// Reads up to `buffer.count` bytes; fewer only at the end of the file.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(FileError)
        -> Int
    /// Writes all of `bytes`; not durable by itself.
    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(FileError)
    /// Writes all of `bytes` and returns when they, and the metadata needed to read them back, are
    /// durable: the same promise as ``write(_:at:)`` followed by ``sync()`` for these bytes alone.
    func writeDurably(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(FileError)
    /// Makes all that was written durable (`fdatasync`). After an error the file must not be
    /// synced or trusted again by this process.
    func sync() throws(FileError)
    /// A hint: these bytes may begin their way to the disk, so that a later ``sync()`` waits for less. Makes
    /// nothing durable, does not wait, and cannot fail.
    func beginWriteBack(_ range: Range<UInt64>)
    func truncate(to byteCount: UInt64) throws(FileError)
    /// Reserves blocks for the first `byteCount` bytes and sets the size; ``FileError/Kind/unsupported``
    /// where the file system cannot.
    func allocate(byteCount: UInt64) throws(FileError)
    func size() throws(FileError) -> UInt64
    func close()
}

extension File {
    /// Does nothing.
    public func beginWriteBack(_ range: Range<UInt64>) {}
}
