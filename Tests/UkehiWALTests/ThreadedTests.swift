// The log with its own threads, on the simulated disk and on a real one.

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiPOSIX
import UkehiSimulation
import _UkehiTestSupport

@testable import UkehiWAL

@Suite("Threads")
struct ThreadedTests {
    /// Several threads append to regions of their own; each waits for durability now and then.
    private func hammer(_ log: WriteAheadLog, lanes: Int, batches: Int) throws -> [[Ticket]] {
        let delivered = Guarded<[[Ticket]]>([[Ticket]](repeating: [], count: lanes))
        let failure = Guarded<WALError?>(nil)
        log.start(
            durable: { lane, ticket in delivered.withLock { $0[lane].append(ticket) } },
            failed: { error in failure.withLock { $0 = error } })
        let threads = (0..<lanes).compactMap { lane in
            RunningThread {
                var batch = LogBatch()
                for round in 0..<batches {
                    for region in UInt64(0)..<4 {
                        batch.append(
                            region: RegionID(UInt64(lane) * 4 + region + 1),
                            hardState: HardState(term: Term(1)),
                            entries: SmallLog.entries(
                                from: UInt64(round) * 2 + 1, count: 2, bytes: 64))
                    }
                    do throws(WALError) {
                        let ticket = try log.submit(&batch, lane: lane)
                        if round % 16 == 15 { _ = log.waitUntilDurable(ticket) }
                    } catch {
                        failure.withLock { $0 = error }
                        return
                    }
                }
            }
        }
        #expect(threads.count == lanes)
        for thread in threads { thread.join() }
        log.stop()
        #expect(failure.withLock { $0 } == nil)
        return delivered.withLock { $0 }
    }

    private func expectAll(_ recovered: [RecoveredRegion], lanes: Int, batches: Int) {
        #expect(recovered.count == lanes * 4)
        #expect(recovered.allSatisfy { $0.lastIndex == LogIndex(UInt64(batches) * 2) })
    }

    @Test("lanes hear of their batches in order, and stopping makes everything durable")
    func simulated() throws {
        var options = SmallLog.options
        options.segmentBytes = 64 << 10
        let fileSystem = SimulatedFileSystem()
        let (log, _) = try WriteAheadLog.open(
            fileSystem: fileSystem, directory: SmallLog.directory, options: options,
            random: SeededRandomSource(seed: 1), clock: ManualClock())
        let delivered = try hammer(log, lanes: 3, batches: 200)
        for tickets in delivered {
            #expect(zip(tickets, tickets.dropFirst()).allSatisfy { $0 < $1 })
            #expect(!tickets.isEmpty)
        }
        var random = SeededRandom(seed: 1)
        let again = try SmallLog(fileSystem.crashed(using: &random), options: options)
        expectAll(again.recovered, lanes: 3, batches: 200)
    }

    @Test("the same on the real disk, opened again and purged")
    func real() throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let path = directory.path + "/wal"
        let fileSystem = POSIXFileSystem()
        func open() throws -> (log: WriteAheadLog, regions: [RecoveredRegion]) {
            var options = WALOptions()
            options.segmentBytes = 256 << 10
            return try WriteAheadLog.open(
                fileSystem: fileSystem, directory: path, options: options,
                random: SystemRandomSource(), clock: SystemClock())
        }
        _ = try hammer(try open().log, lanes: 2, batches: 300)
        let (log, regions) = try open()
        expectAll(regions, lanes: 2, batches: 300)
        log.start(durable: { _, _ in }, failed: { _ in })
        let entries = try log.entries(
            region: RegionID(3), from: LogIndex(100), to: LogIndex(140), maxBytes: .max)
        #expect(entries == SmallLog.entries(from: 100, count: 40, bytes: 64).map { $0 })
        var batch = LogBatch()
        for region in UInt64(1)...8 {
            batch.compact(region: RegionID(region), firstIndex: LogIndex(601), term: Term(1))
        }
        _ = log.waitUntilDurable(try log.submit(&batch, lane: 0))
        #expect(try log.purge() == [])
        #expect(log.statistics.segments == 1)
        log.stop()
        let inspector = WALInspector(fileSystem: fileSystem, directory: directory.path)
        #expect(inspector.verify().problem == nil)
        #expect(inspector.audit().isSound)
        let after = try open()
        #expect(after.regions.allSatisfy { $0.firstIndex == LogIndex(601) })
        after.log.stop()
    }

    @Test("tools read a log that is being written")
    func liveInspection() throws {
        var options = SmallLog.options
        options.segmentBytes = 64 << 10
        let fileSystem = SimulatedFileSystem()
        let (log, _) = try WriteAheadLog.open(
            fileSystem: fileSystem, directory: SmallLog.directory, options: options,
            random: SeededRandomSource(seed: 1), clock: ManualClock())
        let isDone = Guarded(false)
        let reader = RunningThread {
            let inspector = WALInspector(fileSystem: fileSystem, directory: SmallLog.directory)
            repeat {
                let report = inspector.verify()
                #expect(report.problem == nil)
                #expect(inspector.audit().isSound)
            } while !isDone.withLock { $0 }
        }
        _ = try hammer(log, lanes: 2, batches: 150)
        isDone.withLock { $0 = true }
        reader?.join()
    }
}
