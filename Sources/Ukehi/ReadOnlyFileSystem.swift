// Files that are read and never changed, however they are opened: for tools that open a log as a node
// does, and have no business to prepare segments in it.

internal import UkehiEnvironment

/// Reads as its base does; whatever changes files or names succeeds and does nothing.
final class ReadOnlyFileSystem: FileSystem {
    private let base: any FileSystem
    init(_ base: any FileSystem) { self.base = base }

    func open(_ path: String, _ mode: OpenMode) throws(FileError) -> any File {
        ReadOnlyFile(mode == .createNew ? nil : try base.open(path, .read))
    }
    func rename(_ source: String, to target: String) throws(FileError) {}
    func remove(_ path: String) throws(FileError) {}
    func createDirectory(_ path: String) throws(FileError) {}
    func list(_ directory: String) throws(FileError) -> [String] { try base.list(directory) }
    func syncDirectory(_ path: String) throws(FileError) {}
    func exists(_ path: String) -> Bool { base.exists(path) }
    func lock(_ path: String) throws(FileError) -> any FileLock { try base.lock(path) }
}

private final class ReadOnlyFile: File {
    /// Nil for a new file: it stays empty.
    private let base: (any File)?
    init(_ base: (any File)?) { self.base = base }

    func read(
        into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(FileError) -> Int {
        guard let base else { return 0 }
        return try base.read(into: buffer, at: offset)
    }
    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(FileError) {}
    func writeDurably(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(FileError) {}
    func sync() throws(FileError) {}
    func truncate(to byteCount: UInt64) throws(FileError) {}
    func allocate(byteCount: UInt64) throws(FileError) {}
    func size() throws(FileError) -> UInt64 {
        guard let base else { return 0 }
        return try base.size()
    }
    func close() { base?.close() }
}
