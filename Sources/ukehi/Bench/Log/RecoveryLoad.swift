// What `ukehi bench wal --recovery` fills a log with, reads it by, and puts it back with.

import UkehiBase
import UkehiEnvironment
import UkehiPOSIX
import UkehiWAL

/// Entries for all regions in turn, each an append of its own, as those of busy regions are.
final class RecoveryLoad {
    private let settings: RecoveryBenchSettings
    private var last: [UInt64]
    private var region = 0
    private(set) var entries: UInt64 = 0
    private let data: Bytes

    init(_ settings: RecoveryBenchSettings) {
        self.settings = settings
        last = [UInt64](repeating: 0, count: settings.regions)
        var random = BenchRandom(seed: 7)
        data = Bytes((0..<settings.entryBytes).map { _ in UInt8(random.next(below: 256)) })
    }

    /// Appends entries of `byteCount` bytes in all, makes them durable and closes the log.
    func append(_ byteCount: Int, to log: WriteAheadLog) throws(WALError) {
        log.start(durable: { _, _ in }, failed: { _ in })
        defer { log.stop() }
        var batch = LogBatch()
        var left = max(byteCount / settings.entryBytes, 1)
        var ticket: Ticket = 0
        while left > 0 {
            for _ in 0..<min(left, 64) {
                last[region] += 1
                let index = LogIndex(last[region])
                batch.append(
                    region: RegionID(UInt64(region) + 2),
                    hardState: HardState(term: Term(1), vote: PeerID(1), commit: index - 1),
                    entries: [Entry(term: Term(1), index: index, data: data)])
                region = region + 1 == last.count ? 0 : region + 1
                entries += 1
                left -= 1
            }
            while true {
                do throws(WALError) {
                    ticket = try log.submit(&batch, lane: 0)
                    break
                } catch {
                    guard error.code == .overloaded else { throw error }
                    BenchClock.pause(nanoseconds: 1_000_000)
                }
            }
        }
        guard log.waitUntilDurable(ticket) else {
            throw WALError(.ioFailed, "the log stopped while it was filled")
        }
        // Footers follow in the background, as in a node.
        BenchClock.pause(nanoseconds: 300_000_000)
    }

    func difference(_ regions: [RecoveredRegion]) -> String? {
        guard regions.count == last.count else {
            return "\(regions.count) regions of \(last.count) were there"
        }
        for (region, due) in zip(regions, last) where region.lastIndex.rawValue != due {
            return "\(region.region) ends with \(region.lastIndex), \(due) was acknowledged"
        }
        return nil
    }
}

/// What reading the log's bytes, and their checksum, cost by themselves, on one thread.
struct BareReading: Sendable {
    var bytes: UInt64 = 0
    var readSeconds = 0.0
    var checksumSeconds = 0.0

    var checksumGigabytesPerSecond: Double { Double(bytes) / checksumSeconds / 1e9 }
    var gigabytesPerSecond: Double { Double(bytes) / (readSeconds + checksumSeconds) / 1e9 }

    /// Reads each segment by the megabyte and checks what was read while it is in the processor's cache.
    static func measure(_ directory: String) throws(WALError) -> BareReading {
        var total = BareReading()
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
        defer { buffer.deallocate() }
        try forEachFile(directory) { (file) throws(FileError) in
            var offset: UInt64 = 0
            while true {
                let start = BenchClock.now()
                let count = try file.read(into: buffer, at: offset)
                let read = BenchClock.now()
                _ = CRC32C.checksum(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
                total.readSeconds += Double(read - start) / 1e9
                total.checksumSeconds += Double(BenchClock.now() - read) / 1e9
                total.bytes += UInt64(count)
                offset += UInt64(count)
                if count < buffer.count { return }
            }
        }
        return total
    }

    private static func forEachFile(
        _ directory: String, _ body: (any File) throws(FileError) -> Void
    ) throws(WALError) {
        let fileSystem = POSIXFileSystem()
        do throws(FileError) {
            for name in try fileSystem.list(directory) where name.hasSuffix(".wal") {
                let file = try fileSystem.open(directory + "/" + name, .read)
                defer { file.close() }
                try body(file)
            }
        } catch {
            throw WALError(.ioFailed, "the log's files were not read: \(error)")
        }
    }
}

/// What opening changes of a closed log: its mark, the end of its newest segment, a further one.
struct LogEnding {
    private let directory: String
    private let newest: String
    private let files: [(name: String, bytes: Bytes)]

    init(_ directory: String) throws(WALError) {
        self.directory = directory
        let fileSystem = POSIXFileSystem()
        do throws(FileError) {
            newest = try fileSystem.list(directory).last { $0.hasSuffix(".wal") } ?? ""
            var files: [(name: String, bytes: Bytes)] = []
            for name in [newest, "mark"] {
                let file = try fileSystem.open(directory + "/" + name, .read)
                defer { file.close() }
                let bytes = try Bytes(count: Int(try file.size())) { (buffer) throws(FileError) in
                    try file.read(into: buffer, at: 0)
                }
                files.append((name, bytes))
            }
            self.files = files
        } catch {
            throw WALError(.ioFailed, "the log's files were not read: \(error)")
        }
    }

    /// Makes the log as it was, durably, so that nothing is left to do for the next opening.
    func putBack() throws(WALError) {
        let fileSystem = POSIXFileSystem()
        do throws(FileError) {
            for name in try fileSystem.list(directory) where name.hasSuffix(".wal") && name > newest
            {
                try fileSystem.remove(directory + "/" + name)
            }
            for (name, bytes) in files {
                let file = try fileSystem.open(directory + "/" + name, .readWrite)
                defer { file.close() }
                try bytes.withUnsafeBytes { (raw) throws(FileError) in try file.write(raw, at: 0) }
                try file.truncate(to: UInt64(bytes.count))
                try file.sync()
            }
            try fileSystem.syncDirectory(directory)
        } catch {
            throw WALError(.ioFailed, "the log was not put back: \(error)")
        }
    }
}
