// A log on the simulated disk, driven by hand: frames in flight end in any order, the power goes at
// any point, recovery may be cut as well, and what comes back is compared with the naive twin.

import Synchronization
import UkehiBase
import UkehiEnvironment
import UkehiSimulation

@testable import UkehiWAL

/// What the log told its owner.
final class Told: Sendable {
    let acknowledged = Mutex<Ticket>(0)
    let failure = Mutex<WALError?>(nil)
    let deliveries = Mutex<[LaneTicket]>([])
    let damages = Mutex<[LogDamage]>([])
}

final class CrashHarness {
    static let directory = "/data/wal"

    var random: SeededRandom
    var options = WALOptions()
    var fileSystem = SimulatedFileSystem()
    var regionCount = 6
    var maxData = 700

    private var log: WriteAheadLog
    private var recovered: [RecoveredRegion] = []
    private var model = ModelLog()
    /// The twin after each batch since the last recovery; position 0 is the recovered state.
    private var history: [ModelLog] = []
    private var tickets: [Ticket] = []
    private let told = Told()
    private let clock = ManualClock()
    private var inFlight: [(group: Group, write: SubmittedWrite)] = []

    // What a run reached, so that a test can say that it tested something.
    private(set) var crashes = 0
    private(set) var kills = 0
    private(set) var lostBatches = 0
    private(set) var mostInFlight = 0
    private(set) var removedSegments = 0
    private(set) var carries = 0
    private(set) var rewrites: UInt64 = 0
    private(set) var cutRecoveries = 0
    private(set) var claims = 0
    private(set) var footers: UInt64 = 0
    private(set) var scrubbedBytes: UInt64 = 0
    private(set) var rotations: UInt64 = 0
    private(set) var refusals = 0
    private(set) var shortSegments = 0
    private(set) var starved = 0

    init(seed: UInt64) throws {
        random = SeededRandom(seed: seed)
        options.segmentBytes = 4096 * Int.random(in: 8...24, using: &random)
        options.maxGroupsInFlight = Int.random(in: 1...5, using: &random)
        options.maxGroupBytes = 4096 * Int.random(in: 1...4, using: &random)
        options.zeroesAhead = !random.oneIn(4)
        options.writesFooters = !random.oneIn(5)
        options.readsFooters = !random.oneIn(5)
        options.compressionThresholdBytes =
            random.oneIn(3) ? nil : Int.random(in: 32...1000, using: &random)
        fileSystem.setAllocationSupported(!random.oneIn(4))
        if random.oneIn(2) {
            // Entries are written again long before it is worth it.
            options.rarePaths = RarePaths(
                random: SeededRandomSource(seed: seed), only: [.carriedEarly])
        }
        let opened = try CrashHarness.open(fileSystem, options, seed: seed, clock)
        log = opened.log
        begin(opened)
        history = [model]
    }

    private static func open(
        _ fileSystem: SimulatedFileSystem, _ options: WALOptions, seed: UInt64,
        _ clock: ManualClock = ManualClock()
    ) throws(WALError) -> (log: WriteAheadLog, regions: [RecoveredRegion]) {
        try WriteAheadLog.open(
            fileSystem: fileSystem, directory: directory, options: options,
            random: SeededRandomSource(seed: seed), clock: clock)
    }

    private func begin(_ opened: (log: WriteAheadLog, regions: [RecoveredRegion])) {
        log = opened.log
        recovered = opened.regions
        told.acknowledged.withLock { $0 = 0 }
        told.failure.withLock { $0 = nil }
        tickets = []
        inFlight = []
        log.start(
            threads: false,
            durable: { [told] _, ticket in told.acknowledged.withLock { $0 = max($0, ticket) } },
            failed: { [told] error in told.failure.withLock { $0 = error } },
            damaged: { [told] damage in told.damages.withLock { $0.append(damage) } })
    }

    /// Runs `steps` random steps, with a crash now and then.
    func run(steps: Int) throws {
        for _ in 0..<steps {
            try step()
            let failure = told.failure.withLock { $0 }
            // All that it writes has blocks already.
            if let failure, failure.code == .diskFull { throw ModelMismatch("\(failure)") }
            if failure != nil || random.oneIn(60) { try crash() }
        }
        try crash()
    }

    /// One random step; `cuts`: now and then the disk is gone a few operations later.
    func step(cuts: Bool = true) throws {
        switch Int.random(in: 0..<20, using: &random) {
        case 0..<7: try submit()
        case 7..<12: takeWork()
        case 12..<17: completeOne()
        case 17:
            log.prepareStep()
            try scrub()
        case 18:
            if random.oneIn(options.rarePaths.isOn ? 2 : 3) {
                log.claimIfIdle()
            } else {
                for _ in 0..<(options.rarePaths.isOn ? 3 : 1) { try purge() }
            }
        case 19 where random.oneIn(4) && fileSystem.isAllocationSupported:
            // The volume is full from now on, or has room again.
            let isFull = fileSystem.volumeBytes != nil
            fileSystem.setVolume(byteCount: isFull ? nil : fileSystem.usedBytes)
        default:
            // The next few operations succeed, then the disk is gone.
            if random.oneIn(6), cuts { cutSoon() }
        }
    }

    private func cutSoon() {
        let last = fileSystem.operations + Int.random(in: 1...12, using: &random)
        fileSystem.setHook { (operation) throws(FileError) in
            guard operation.ordinal <= last else {
                throw FileError(
                    kind: .ioFailed, operation: "\(operation.kind)", path: operation.path)
            }
        }
    }

    private func submit() throws {
        var batch = log.newBatch()
        let before = model
        for _ in 0..<Int.random(in: 1...4, using: &random) {
            model.change(&random, &batch, regionCount: regionCount, maxData: maxData)
        }
        if batch.isEmpty {
            model = before
            return
        }
        do {
            tickets.append(try log.submit(&batch, lane: Int.random(in: 0...2, using: &random)))
            history.append(model)
        } catch {
            guard error.code == .failed || error.code == .diskFull else { throw error }
            if error.code == .diskFull { refusals += 1 }
            model = before
        }
    }

    private func takeWork() {
        guard let work = log.takeWork() else { return }
        switch work {
        case .activate:
            rotations += 1
            log.perform(work)
        case .frame(let group):
            if group.isClaim { claims += 1 }
            let bytes = group.fill()
            guard let file = group.segment?.file as? SimulatedFile else { return }
            do {
                let write = try file.submit(bytes, at: group.header.offset)
                inFlight.append((group, write))
                mostInFlight = max(mostInFlight, inFlight.count)
            } catch {
                log.fail(WALError(error, effect: "The log has stopped"))
            }
        }
    }

    private func completeOne() {
        guard let position = inFlight.indices.randomElement(using: &random) else { return }
        let ended = inFlight.remove(at: position)
        guard let file = ended.group.segment?.file as? SimulatedFile else { return }
        do {
            try file.complete(ended.write)
            log.finish(ended.group)
        } catch {
            log.fail(WALError(error, effect: "The log has stopped"))
        }
    }

    /// Nothing is damaged here but what a cut disk no longer gives.
    private func scrub() throws {
        clock.advance(byNanoseconds: random.oneIn(20) ? 600_000_000_000 : 100_000)
        log.scrubStep()
        if let damage = told.damages.withLock({ $0.first { $0.error.code == .corrupted } }) {
            throw ModelMismatch("a false alarm: \(damage)")
        }
    }

    private func purge() throws {
        do {
            switch try log.purgeStep() {
            case .removed: removedSegments += 1
            case .carried: carries += 1
            case .pinned, .done: break
            }
        } catch {
            guard told.failure.withLock({ $0 != nil }) else { throw error }
        }
    }

    // MARK: Crashes

    private func crash() throws {
        crashes += 1
        footers += log.statistics.footersWritten
        rewrites += log.statistics.regionsRewritten
        scrubbedBytes += log.statistics.scrubbedBytes
        var left: SimulatedFileSystem
        if random.oneIn(3) {
            // Only the process ends: what it wrote is still on its way to the disk.
            kills += 1
            left = fileSystem
            left.setHook(nil)
            left.processEnded()
        } else {
            left = fileSystem.crashed(using: &random)
        }
        // Recovery itself may be cut, and again.
        for _ in 0..<3 where random.oneIn(3) {
            let last = left.operations + Int.random(in: 0...14, using: &random)
            left.setHook { (operation) throws(FileError) in
                guard operation.ordinal <= last else {
                    throw FileError(
                        kind: .ioFailed, operation: "\(operation.kind)", path: operation.path)
                }
            }
            do {
                let opened = try CrashHarness.open(left, options, seed: random.next())
                opened.log.fail(WALError(.failed, "The test is over."))
            } catch {
                guard error.code == .ioFailed || error.code == .diskFull else { throw error }
                cutRecoveries += 1
            }
            left.setHook(nil)
            if random.oneIn(3) {
                left.processEnded()
            } else {
                left = left.crashed(using: &random)
            }
        }
        try reopen(left)
    }

    /// Ends the process alone and starts the next one on what it left.
    func kill() throws {
        kills += 1
        fileSystem.processEnded()
        try reopen(fileSystem)
    }

    private func reopen(_ left: SimulatedFileSystem) throws {
        fileSystem = left
        let (opened, kept) = try recover(left, seed: random.next())
        lostBatches += history.count - 1 - kept
        try expectSecondRecoveryToAgree(opened.regions, left)
        model = history[kept]
        history = [model]
        begin(opened)
    }

    /// Opens what a crash left: all that was acknowledged is there, and nothing that never was.
    /// Returns how many batches since the last start are there.
    @discardableResult
    func recover(
        _ left: SimulatedFileSystem, seed: UInt64
    ) throws -> (opened: (log: WriteAheadLog, regions: [RecoveredRegion]), kept: Int) {
        let acknowledged = told.acknowledged.withLock { $0 }
        let least = tickets.filter { $0 <= acknowledged }.count
        let opened = try openWithRoom(left, seed: seed)
        let found = try ModelLog.of(opened.log, opened.regions)
        guard let kept = history.indices.last(where: { history[$0].isSame(as: found) }) else {
            throw ModelMismatch(
                "recovered what was never the state; "
                    + history[history.count - 1].difference(from: found))
        }
        guard kept >= least else {
            throw ModelMismatch("\(least) batches were acknowledged, \(kept) are left")
        }
        return (opened, kept)
    }

    /// Of such small segments a reserve is soon used up by starts that follow each other.
    private func openWithRoom(
        _ left: SimulatedFileSystem, seed: UInt64
    ) throws -> (log: WriteAheadLog, regions: [RecoveredRegion]) {
        do throws(WALError) {
            let opened = try CrashHarness.open(left, options, seed: seed, clock)
            if opened.log.roomLeft.room != .ample { shortSegments += 1 }
            return opened
        } catch {
            guard error.code == .diskFull, left.volumeBytes != nil else { throw error }
            starved += 1
            left.setVolume(byteCount: nil)
            return try CrashHarness.open(left, options, seed: seed, clock)
        }
    }

    /// What was recovered is durable: losing everything pending changes nothing.
    private func expectSecondRecoveryToAgree(
        _ regions: [RecoveredRegion], _ fileSystem: SimulatedFileSystem
    ) throws {
        let crashed = fileSystem.crashed(using: &random)
        for readsFooters in [true, false] {
            var options = options
            options.readsFooters = readsFooters
            let copy = crashed.copy()
            copy.setVolume(byteCount: nil)
            let again = try CrashHarness.open(copy, options, seed: random.next())
            guard again.regions == regions else {
                throw ModelMismatch("a second recovery found something else")
            }
        }
    }
}

extension ModelLog {
    /// Equal, but for regions of which nothing was ever said.
    func isSame(as other: ModelLog) -> Bool {
        func said(_ model: ModelLog) -> [RegionID: ModelRegion] {
            model.regions.filter { $0.value != ModelRegion() }
        }
        return said(self) == said(other)
    }

    func difference(from other: ModelLog) -> String {
        for id in Set(regions.keys).union(other.regions.keys).sorted()
        where regions[id] ?? ModelRegion() != other.regions[id] ?? ModelRegion() {
            let mine = regions[id] ?? ModelRegion()
            let theirs = other.regions[id] ?? ModelRegion()
            return "\(id): \(mine.first)...\(mine.last) \(mine.hardState) here, "
                + "\(theirs.first)...\(theirs.last) \(theirs.hardState) there"
        }
        return "no difference"
    }
}
