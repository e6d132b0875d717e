// What the disk itself can do, measured in the data directory before the load starts, so that every
// figure of a run can be read as a ratio to it.
//
//   single    pwrite 4 KiB + fdatasync, one at a time, into a file that was written before
//   stream    pwrite 1 MiB + fdatasync, front to back, into the same file
//
// The file is filled with zeros and synced first: as in the node's own log, a sync of written
// blocks changes no metadata.

import Glibc
import UkehiBase

/// The disk's figures in one directory.
struct DiskCeiling: Equatable, Sendable {
    var fdatasyncPerSecond = 0.0
    var fdatasyncP50Microseconds = 0.0
    var sequentialMegabytesPerSecond = 0.0

    private static let fileBytes = 64 << 20
    private static let streamBytes = 1 << 20

    /// Measures for about `seconds` (half for each figure, and the filling), then removes its file.
    static func measure(in directory: String, seconds: Double) throws(BenchFileError) -> DiskCeiling
    {
        let path = "\(directory)/disk-ceiling"
        let file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw .last("the disk was not measured: cannot create \(path)") }
        defer {
            close(file)
            unlink(path)
        }
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: streamBytes, alignment: 4096)
        defer { buffer.deallocate() }
        buffer.initializeMemory(as: UInt8.self, repeating: 0, count: streamBytes)
        for step in 0..<fileBytes / streamBytes {
            try write(file, buffer, streamBytes, at: step * streamBytes)
        }
        guard fsync(file) == 0 else { throw .last("the disk was not measured: fsync failed") }
        // Incompressible, or a device that stores zeros specially would look too good.
        var random = BenchRandom(seed: 4096)
        for word in 0..<streamBytes / 8 {
            buffer.storeBytes(of: random.next(), toByteOffset: word * 8, as: UInt64.self)
        }

        var result = DiskCeiling()
        let latencies = LatencyRecorder()
        let half = UInt64(max(seconds, 0.01) / 2 * 1e9)
        let start = BenchClock.now()
        var now = start
        var count = 0
        while now - start < half {
            let before = now
            try write(file, buffer, 4096, at: (count * 4096) % fileBytes)
            try sync(file)
            now = BenchClock.now()
            latencies.record(now - before)
            count += 1
        }
        result.fdatasyncPerSecond = Double(count) / (Double(now - start) / 1e9)
        result.fdatasyncP50Microseconds = latencies.summary().p50

        let streamStart = now
        count = 0
        while now - streamStart < half {
            try write(file, buffer, streamBytes, at: (count * streamBytes) % fileBytes)
            try sync(file)
            now = BenchClock.now()
            count += 1
        }
        let bytes = Double(count * streamBytes)
        result.sequentialMegabytesPerSecond = bytes / 1e6 / (Double(now - streamStart) / 1e9)
        return result
    }

    private static func write(
        _ file: Int32, _ bytes: UnsafeRawPointer, _ count: Int, at offset: Int
    ) throws(BenchFileError) {
        var done = 0
        while done < count {
            let written = pwrite(file, bytes + done, count - done, offset + done)
            if written < 0 {
                if errno == EINTR { continue }
                throw .last("the disk was not measured: a write failed")
            }
            done += written
        }
    }

    private static func sync(_ file: Int32) throws(BenchFileError) {
        guard fdatasync(file) == 0 else {
            throw .last("the disk was not measured: fdatasync failed")
        }
    }
}
