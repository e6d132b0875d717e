// What the disk gives a writer that does nothing else: the same calls as the log's own, on a file
// that was zeroed ahead like the log's segments, one write at a time, front to back.

import UkehiEnvironment
import UkehiPOSIX

/// One kind of raw write, measured.
struct RawWrites: Equatable, Sendable {
    var bytes = 0
    var perSecond = 0.0
    var p50Microseconds = 0.0
    var p99Microseconds = 0.0

    var megabytesPerSecond: Double { perSecond * Double(bytes) / 1e6 }

    init(bytes: Int) { self.bytes = bytes }

    init(bytes: Int, _ latencies: LatencyRecorder, nanoseconds: UInt64) {
        self.bytes = bytes
        let summary = latencies.summary()
        perSecond = Double(summary.count) / (Double(max(nanoseconds, 1)) / 1e9)
        p50Microseconds = summary.p50
        p99Microseconds = summary.p99
    }
}

/// A file to write raw.
final class LogCeiling {
    private let fileSystem = POSIXFileSystem()
    private let file: any File
    private let path: String
    private let buffer: UnsafeMutableRawBufferPointer
    private var offset = 0

    private static let fileBytes = 64 << 20
    private static let bufferBytes = 8 << 20

    /// Makes the file and fills it with zeros.
    init(directory: String) throws(FileError) {
        path = "\(directory)/ceiling"
        buffer = .allocate(byteCount: LogCeiling.bufferBytes, alignment: 4096)
        buffer.initializeMemory(as: UInt8.self, repeating: 0)
        file = try fileSystem.open(path, .createNew)
        do throws(FileError) {
            try file.allocate(byteCount: UInt64(LogCeiling.fileBytes))
        } catch {
            guard error.kind == .unsupported else { throw error }
        }
        try file.sync()
        let piece = 1 << 20
        for start in stride(from: 0, to: LogCeiling.fileBytes, by: piece) {
            try file.writeDurably(
                UnsafeRawBufferPointer(rebasing: buffer[..<piece]), at: UInt64(start))
        }
        // Incompressible, or a device that stores zeros specially would look too good.
        var random = BenchRandom(seed: 4096)
        for word in stride(from: 0, to: buffer.count, by: 8) {
            buffer.storeBytes(of: random.next(), toByteOffset: word, as: UInt64.self)
        }
    }

    deinit {
        file.close()
        try? fileSystem.remove(path)
        buffer.deallocate()
    }

    /// Durable writes of `bytes`, rounded up to blocks, one at a time, for `seconds`; added to
    /// `latencies`. Returns how long it took, in nanoseconds.
    func write(
        bytes: Int, seconds: Double, into latencies: LatencyRecorder
    ) throws(FileError) -> UInt64 {
        let size = LogCeiling.frameBytes(bytes)
        return try repeating(size, seconds, latencies) { (piece, at) throws(FileError) in
            try self.file.writeDurably(piece, at: at)
        }
    }

    /// The textbook's way, for comparison: a write into the page cache, then `fdatasync`.
    func writeAndSync(bytes: Int, seconds: Double) throws(FileError) -> RawWrites {
        let latencies = LatencyRecorder()
        let size = LogCeiling.frameBytes(bytes)
        let nanoseconds = try repeating(size, seconds, latencies) { (piece, at) throws(FileError) in
            try self.file.write(piece, at: at)
            try self.file.sync()
        }
        return RawWrites(bytes: size, latencies, nanoseconds: nanoseconds)
    }

    /// The size of a raw write that stands for frames of `bytes` on average.
    static func frameBytes(_ bytes: Int) -> Int {
        min(max((bytes + 4095) / 4096, 1) * 4096, bufferBytes)
    }

    private func repeating(
        _ size: Int, _ seconds: Double, _ latencies: LatencyRecorder,
        _ write: (UnsafeRawBufferPointer, UInt64) throws(FileError) -> Void
    ) throws(FileError) -> UInt64 {
        let start = BenchClock.now()
        let end = start + UInt64(seconds * 1e9)
        var now = start
        while now < end {
            if offset + size > LogCeiling.fileBytes { offset = 0 }
            try write(UnsafeRawBufferPointer(rebasing: buffer[..<size]), UInt64(offset))
            offset += size
            let after = BenchClock.now()
            latencies.record(after - now)
            now = after
        }
        return now - start
    }
}
