// A log on the simulated disk that a test drives by hand, step by step.

import Synchronization
import UkehiBase
import UkehiEnvironment
import UkehiSimulation

@testable import UkehiWAL

final class SmallLog {
    static let directory = "/data/wal"

    let fileSystem: SimulatedFileSystem
    let log: WriteAheadLog
    let recovered: [RecoveredRegion]
    let told = Told()
    let clock = ManualClock()
    var deliveries: [LaneTicket] { told.deliveries.withLock { $0 } }

    static var options: WALOptions {
        var options = WALOptions()
        options.segmentBytes = 32 << 10
        options.maxGroupBytes = 8 << 10
        options.maxGroupsInFlight = 4
        // Tests that look at bytes know where they are.
        options.compressionThresholdBytes = nil
        return options
    }

    init(
        _ fileSystem: SimulatedFileSystem = SimulatedFileSystem(),
        options: WALOptions = SmallLog.options, seed: UInt64 = 1,
        parallel: any ParallelRunner = SerialRunner()
    ) throws(WALError) {
        self.fileSystem = fileSystem
        (log, recovered) = try WriteAheadLog.open(
            fileSystem: fileSystem, directory: SmallLog.directory, options: options,
            random: SeededRandomSource(seed: seed), clock: clock, parallel: parallel)
        log.start(
            threads: false,
            durable: { [told] lane, ticket in
                told.deliveries.withLock { $0.append(LaneTicket(lane: lane, ticket: ticket)) }
            },
            failed: { [told] error in told.failure.withLock { $0 = error } },
            damaged: { [told] damage in told.damages.withLock { $0.append(damage) } })
    }

    /// Does everything there is to do, in order.
    func pump() {
        while true {
            if let work = log.takeWork() {
                log.perform(work)
            } else if !log.prepareStep() {
                return
            }
        }
    }

    /// Fills three segments with random records of `regions` regions, `changes` in a frame, and claims
    /// the last one.
    func fill(seed: UInt64, changes: Int, regions: Int, maxData: Int) throws {
        var random = SeededRandom(seed: seed)
        var model = ModelLog()
        while segmentNames.count < 3 {
            var batch = log.newBatch()
            for _ in 0..<changes {
                model.change(&random, &batch, regionCount: regions, maxData: maxData)
            }
            if batch.isEmpty { continue }
            _ = try log.submit(&batch, lane: 0)
            pump()
        }
        claim()
    }

    /// One append of `count` entries of `bytes` each to a region, made durable.
    @discardableResult
    func append(
        _ region: UInt64, from first: UInt64, count: Int = 1, term: UInt64 = 1, bytes: Int = 100,
        lane: Int = 0
    ) throws(WALError) -> Ticket {
        let ticket = try submit(
            region, from: first, count: count, term: term, bytes: bytes, lane: lane)
        pump()
        return ticket
    }

    /// The same without making it durable.
    @discardableResult
    func submit(
        _ region: UInt64, from first: UInt64, count: Int = 1, term: UInt64 = 1, bytes: Int = 100,
        lane: Int = 0
    ) throws(WALError) -> Ticket {
        var batch = LogBatch()
        batch.append(
            region: RegionID(region),
            hardState: HardState(
                term: Term(term), vote: PeerID(region), commit: LogIndex(first - 1)),
            entries: SmallLog.entries(from: first, count: count, term: term, bytes: bytes))
        return try log.submit(&batch, lane: lane)
    }

    static func entries(
        from first: UInt64, count: Int, term: UInt64 = 1, bytes: Int = 100
    ) -> [Entry] {
        (0..<count).map { position in
            let index = first + UInt64(position)
            let data = [UInt8](
                repeating: UInt8(truncatingIfNeeded: index &* 31 &+ term), count: bytes)
            return Entry(term: Term(term), index: LogIndex(index), data: Bytes(data))
        }
    }

    func claim() {
        log.claimIfIdle()
        pump()
    }

    var segmentNames: [String] {
        ((try? fileSystem.list(SmallLog.directory)) ?? []).filter { $0.hasSuffix(".wal") }
    }

    static func path(_ name: String) -> String { directory + "/" + name }

    /// Opens a copy of the disk as a power cut that loses nothing leaves it.
    static func reopened(
        _ fileSystem: SimulatedFileSystem, seed: UInt64 = 99
    ) throws(WALError) -> SmallLog {
        try SmallLog(fileSystem.copy(), seed: seed)
    }
}

/// The error that opening ends with, if it does.
func openingError(_ fileSystem: SimulatedFileSystem) -> WALError? {
    do throws(WALError) {
        _ = try SmallLog.reopened(fileSystem)
        return nil
    } catch {
        return error
    }
}
