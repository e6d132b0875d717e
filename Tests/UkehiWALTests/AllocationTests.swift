// The append path of a warm log allocates nothing per entry, per batch or per frame: counted, from
// the batch's first entry to the durable ticket.

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation
import _CAllocationCounter

@testable import UkehiWAL

/// A disk that takes everything and keeps nothing, so that only the log's own work is counted.
private final class ForgetfulFile: File {
    func read(
        into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(FileError) -> Int { 0 }
    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(FileError) {}
    func writeDurably(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(FileError) {}
    func sync() throws(FileError) {}
    func truncate(to byteCount: UInt64) throws(FileError) {}
    func allocate(byteCount: UInt64) throws(FileError) {}
    func size() throws(FileError) -> UInt64 { 0 }
    func close() {}
}

private final class ForgetfulFileSystem: FileSystem, FileLock {
    private let file = ForgetfulFile()
    func open(_ path: String, _ mode: OpenMode) throws(FileError) -> any File { file }
    func rename(_ source: String, to target: String) throws(FileError) {}
    func remove(_ path: String) throws(FileError) {}
    func createDirectory(_ path: String) throws(FileError) {}
    func list(_ directory: String) throws(FileError) -> [String] { [] }
    func syncDirectory(_ path: String) throws(FileError) {}
    func exists(_ path: String) -> Bool { false }
    func lock(_ path: String) throws(FileError) -> any FileLock { self }
    func release() {}
}

@Suite("Allocations of the append path")
struct AllocationTests {
    private static let regions = 8

    /// Appends `rounds` batches of every region to a log and counts what that allocates.
    private struct Appender: ~Copyable {
        let log: WriteAheadLog
        /// Compresses bodies of 64 entries, and not those of fewer.
        var batch: LogBatch
        var entries: [Entry] = []
        var next: UInt64 = 1

        init(entriesPerBatch: Int) throws {
            var options = WALOptions()
            // One segment holds the whole test: making the next one is not part of an append.
            options.segmentBytes = 1 << 30
            options.zeroesAhead = false
            (log, _) = try WriteAheadLog.open(
                fileSystem: ForgetfulFileSystem(), directory: "/log", options: options,
                random: SeededRandomSource(seed: 1), clock: ManualClock())
            batch = log.newBatch()
            log.start(threads: false, durable: { _, _ in }, failed: { _ in })
            while log.prepareStep() {}
            let data = Bytes([UInt8](repeating: 7, count: 128))
            entries = (0..<entriesPerBatch).map { _ in
                Entry(term: Term(1), index: .zero, data: data)
            }
        }

        mutating func append(rounds: Int) throws -> UInt64 {
            let before = ukehi_allocation_count()
            for _ in 0..<rounds {
                for position in entries.indices {
                    entries[position].index = LogIndex(next + UInt64(position))
                }
                for region in 0..<regions {
                    batch.append(
                        region: RegionID(UInt64(region) + 2),
                        hardState: HardState(
                            term: Term(1), vote: PeerID(1), commit: LogIndex(next - 1)),
                        entries: entries)
                }
                next += UInt64(entries.count)
                _ = try log.submit(&batch, lane: 0)
                while let work = log.takeWork() { log.perform(work) }
            }
            return ukehi_allocation_count() - before
        }
    }

    @Test("more entries in a batch are not more allocations")
    func entries() throws {
        guard ukehi_counts_allocations() == 1 else { return }
        let counts = try [4, 64].map { entriesPerBatch in
            var appender = try Appender(entriesPerBatch: entriesPerBatch)
            _ = try appender.append(rounds: 500)
            return try appender.append(rounds: 500)
        }
        print(
            "allocations of 500 group commits of \(Self.regions) regions: \(counts[0]) with 4 "
                + "entries a batch, \(counts[1]) with 64")
        // The index keeps a block per batch: eight regions whose arrays double now and then.
        #expect(max(counts[0], counts[1]) - min(counts[0], counts[1]) <= Self.regions * 2)
    }

    /// Unoptimised code allocates for closures and temporaries that optimised code does not have.
    @Test("more group commits are not more allocations", .enabled(if: isOptimised))
    func groups() throws {
        guard ukehi_counts_allocations() == 1 else { return }
        for entriesPerBatch in [16, 64] {
            var appender = try Appender(entriesPerBatch: entriesPerBatch)
            _ = try appender.append(rounds: 500)
            let once = try appender.append(rounds: 500)
            let fourfold = try appender.append(rounds: 2000)
            print(
                "allocations of the append path, \(entriesPerBatch) entries a batch: \(once) for "
                    + "500 group commits, \(fourfold) for 2000")
            #expect(once <= Self.regions * 2)
            #expect(fourfold <= Self.regions * 3)
            let stored = appender.log.statistics
            #expect((stored.bodyBytes < stored.rawBodyBytes) == (entriesPerBatch == 64))
        }
    }
}

private let isOptimised: Bool = {
    var isOptimised = true
    assert(
        {
            isOptimised = false
            return true
        }())
    return isOptimised
}()
