// Files whose syncs do nothing: what `wal.unsafe_no_fsync` asks for. For measuring what syncs cost.

internal import UkehiEnvironment

/// Passes everything on but durability. A power cut loses what was acknowledged.
final class UnsafeFileSystem: FileSystem {
    private let base: any FileSystem
    init(_ base: any FileSystem) { self.base = base }

    func open(_ path: String, _ mode: OpenMode) throws(FileError) -> any File {
        UnsafeFile(try base.open(path, mode))
    }
    func rename(_ source: String, to target: String) throws(FileError) {
        try base.rename(source, to: target)
    }
    func remove(_ path: String) throws(FileError) { try base.remove(path) }
    func createDirectory(_ path: String) throws(FileError) { try base.createDirectory(path) }
    func list(_ directory: String) throws(FileError) -> [String] { try base.list(directory) }
    func syncDirectory(_ path: String) throws(FileError) {}
    func exists(_ path: String) -> Bool { base.exists(path) }
    func freeBytes(_ directory: String) -> UInt64 { base.freeBytes(directory) }
    func lock(_ path: String) throws(FileError) -> any FileLock { try base.lock(path) }
}

private final class UnsafeFile: File {
    private let base: any File
    init(_ base: any File) { self.base = base }

    func read(
        into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(FileError) -> Int {
        try base.read(into: buffer, at: offset)
    }
    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(FileError) {
        try base.write(bytes, at: offset)
    }
    func writeDurably(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(FileError) {
        try base.write(bytes, at: offset)
    }
    func sync() throws(FileError) {}
    func truncate(to byteCount: UInt64) throws(FileError) { try base.truncate(to: byteCount) }
    func allocate(byteCount: UInt64) throws(FileError) { try base.allocate(byteCount: byteCount) }
    func size() throws(FileError) -> UInt64 { try base.size() }
    func close() { base.close() }
}
