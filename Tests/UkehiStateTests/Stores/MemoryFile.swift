// A file for tests that need no disk.

import UkehiEnvironment

/// A file that is an array, and counts what is read of it.
final class MemoryFile: File, @unchecked Sendable {
    // Safety: used by the one thread of its test.
    var bytes: [UInt8]
    private(set) var bytesRead = 0
    /// What the file says of its size, if that is not so.
    var claimedSize: UInt64?

    init(_ bytes: [UInt8] = []) { self.bytes = bytes }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(FileError)
        -> Int
    {
        guard offset < UInt64(bytes.count) else { return 0 }
        let count = min(buffer.count, bytes.count - Int(offset))
        bytes.withUnsafeBytes {
            let source = UnsafeRawBufferPointer(rebasing: $0[Int(offset)..<Int(offset) + count])
            buffer.copyMemory(from: source)
        }
        bytesRead += count
        return count
    }
    func write(_ source: UnsafeRawBufferPointer, at offset: UInt64) throws(FileError) {
        bytes.replaceSubrange(Int(offset)..., with: source)
    }
    func writeDurably(_ source: UnsafeRawBufferPointer, at offset: UInt64) throws(FileError) {
        try write(source, at: offset)
    }
    func sync() throws(FileError) {}
    func truncate(to byteCount: UInt64) throws(FileError) {
        bytes.removeLast(bytes.count - Int(byteCount))
    }
    func allocate(byteCount: UInt64) throws(FileError) {}
    func size() throws(FileError) -> UInt64 { claimedSize ?? UInt64(bytes.count) }
    func close() {}
}
