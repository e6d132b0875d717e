// What the disk gives a writer that does nothing else: the same calls as the log's own, on a file
// that was zeroed ahead like the log's segments, front to back, one write at a time or several.
//
// A shared disk's own figures can differ by a factor of ten from one second to the next, and a burst of
// writes uses up what it grants in advance. So this is measured in turns with the log, a moment each.

import Glibc
import Synchronization
import UkehiEnvironment
import UkehiPOSIX

/// One kind of raw write, measured.
struct RawWrites: Sendable {
    var bytes = 0
    var depth = 1
    private(set) var count: UInt64 = 0
    private(set) var nanoseconds: UInt64 = 0
    private var written: UInt64 = 0
    private let latencies = LatencyRecorder()

    init(bytes: Int, depth: Int = 1) {
        self.bytes = bytes
        self.depth = depth
    }

    var perSecond: Double { Double(count) / seconds }
    var megabytesPerSecond: Double { Double(written) / 1e6 / seconds }
    var latency: LatencySummary { latencies.summary() }
    private var seconds: Double { Double(max(nanoseconds, 1)) / 1e9 }

    /// Adds what a further turn found.
    mutating func add(bytes: Int, _ found: LatencyRecorder, nanoseconds: UInt64) {
        self.bytes = bytes
        count += found.total
        written += found.total * UInt64(bytes)
        self.nanoseconds += nanoseconds
        latencies.add(found)
    }
}

/// A file to write raw.
final class LogCeiling {
    private let fileSystem = POSIXFileSystem()
    private let file: any File
    private let path: String
    /// Ordinary memory, as a program has that takes no care of it.
    private let buffer: UnsafeMutableRawBufferPointer
    /// The same on large pages, which the log's large frames are on.
    private let largePages: UnsafeMutableRawBufferPointer
    private var offset = 0

    /// As much as a few of the log's segments.
    private static let fileBytes = 128 << 20
    private static let bufferBytes = 16 << 20

    /// Makes the file and fills it with zeros.
    init(directory: String) throws(FileError) {
        path = "\(directory)/ceiling"
        buffer = .allocate(byteCount: LogCeiling.bufferBytes, alignment: 4096)
        largePages = .allocate(byteCount: LogCeiling.bufferBytes, alignment: 2 << 20)
        #if os(Linux)
            _ = madvise(largePages.baseAddress, largePages.count, MADV_HUGEPAGE)
        #endif
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
        largePages.copyMemory(from: UnsafeRawBufferPointer(buffer))
    }

    deinit {
        file.close()
        try? fileSystem.remove(path)
        buffer.deallocate()
        largePages.deallocate()
    }

    /// Durable writes of `size` bytes, whole blocks, for `seconds`; as many at a time as `writes` says, of
    /// several from large pages.
    func write(
        bytes size: Int, seconds: Double, into writes: inout RawWrites
    ) throws(FileError) {
        try repeating(size, seconds, &writes) { (file, piece, at) throws(FileError) in
            try file.writeDurably(piece, at: at)
        }
    }

    /// The textbook's way, for comparison: a write into the page cache, then `fdatasync`.
    func writeAndSync(bytes: Int, seconds: Double) throws(FileError) -> RawWrites {
        var writes = RawWrites(bytes: bytes)
        try repeating(bytes, seconds, &writes) { (file, piece, at) throws(FileError) in
            try file.write(piece, at: at)
            try file.sync()
        }
        return writes
    }

    /// The size of a raw write that stands for frames of `bytes` on average.
    static func frameBytes(_ bytes: Int) -> Int {
        min(max((bytes + 4095) / 4096, 1) * 4096, bufferBytes / 4)
    }

    private typealias Write =
        @Sendable (any File, UnsafeRawBufferPointer, UInt64)
        throws(FileError) -> Void

    private func repeating(
        _ size: Int, _ seconds: Double, _ writes: inout RawWrites, _ write: @escaping Write
    ) throws(FileError) {
        let turn = Turn(
            file: file, buffer: writes.depth > 1 ? largePages : buffer, size: size, offset: offset)
        let start = BenchClock.now()
        let end = start + UInt64(seconds * 1e9)
        ThreadRunner(width: writes.depth).forEach(writes.depth) { _ in
            turn.run(until: end, write)
        }
        let found = try turn.result()
        offset = found.offset
        writes.add(bytes: size, found.latencies, nanoseconds: BenchClock.now() - start)
    }

    /// One turn's writers, which share the file from front to back.
    ///
    /// Safety: the buffer is only read, and outlives the turn.
    private final class Turn: @unchecked Sendable {
        private let file: any File
        private let buffer: UnsafeMutableRawBufferPointer
        private let size: Int
        private let next: Atomic<Int>
        private let found = Mutex<(latencies: LatencyRecorder, failure: FileError?)>(
            (LatencyRecorder(), nil))

        init(file: any File, buffer: UnsafeMutableRawBufferPointer, size: Int, offset: Int) {
            self.file = file
            self.buffer = buffer
            self.size = size
            next = Atomic(offset / size)
        }

        func run(until end: UInt64, _ write: Write) {
            let latencies = LatencyRecorder()
            let (places, pieces) = (LogCeiling.fileBytes / size, buffer.count / size)
            do throws(FileError) {
                var now = BenchClock.now()
                while now < end {
                    let place = next.add(1, ordering: .relaxed).oldValue
                    // Other bytes each time, as a log's are.
                    let piece = place % pieces * size
                    try write(
                        file, UnsafeRawBufferPointer(rebasing: buffer[piece..<piece + size]),
                        UInt64(place % places * size))
                    let after = BenchClock.now()
                    latencies.record(after - now)
                    now = after
                }
            } catch {
                found.withLock { $0.failure = error }
            }
            found.withLock { $0.latencies.add(latencies) }
        }

        func result() throws(FileError) -> (latencies: LatencyRecorder, offset: Int) {
            let (latencies, failure) = found.withLock { $0 }
            if let failure { throw failure }
            return (latencies, next.load(ordering: .relaxed) * size % LogCeiling.fileBytes)
        }
    }
}
