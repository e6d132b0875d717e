// What kind of cluster and world a seed stands for. Swarm testing: each seed draws its own sizes,
// speeds and kinds of fault, so that rare combinations are reached (Groce et al., 2012).

package import UkehiBase
package import UkehiNode
package import UkehiState

/// Which kinds of fault a simulation may draw from.
package enum Scenario: String, CaseIterable, Sendable {
    /// Any of them.
    case swarm
    /// Processes end and disks forget.
    case crashes
    /// Disks are slow, full, failing or rotten.
    case disks
    /// Messages are lost, late, doubled and cut off.
    case network
    /// Processes stop and clocks lie.
    case time
    /// Disks change what they hold, the last good copy too: nodes may refuse, none may lie.
    case rot
    /// Regions' members change all the while, under any faults but those of what disks hold.
    case members
    /// Regions are divided all the while, and their members change, under the same faults.
    case splits
    /// Disks are lost as a whole, their nodes come back empty as new ones, and in the end most nodes may die
    /// for good; under any faults but those of what disks hold.
    case nodes
    /// None: how things are meant to be.
    case calm

    /// Those that a seed draws from; stalls of the store are drawn apart.
    var faultKinds: [FaultKind] {
        switch self {
        case .swarm: FaultKind.allCases.filter { ![.rot, .stalledStore].contains($0) }
        case .crashes: [.kill, .powerCut, .blackout, .crashAtWork, .killThenCut]
        case .disks:
            [
                .slowDisk, .stalledDisk, .failedWrite, .failedSync, .failedRead, .diskFull,
                .fullAtWrite, .corruption, .misdirection, .rottenEntries, .powerCut,
            ]
        case .network:
            [
                .loss, .duplication, .delay, .isolation, .isolatedLeader, .oneWay, .split, .ring,
                .bridge, .flapping, .slowNode, .lateAnswers,
            ]
        case .time: [.pause, .slowProcess, .clockJump, .clockDrift, .isolation, .kill]
        case .rot: [.rot, .rottenEntries, .kill, .powerCut]
        case .members, .splits, .nodes:
            FaultKind.allCases.filter {
                ![.rot, .corruption, .misdirection, .rottenEntries, .stalledStore].contains($0)
            }
        case .calm: []
        }
    }
}

/// The settings of one simulation, all drawn from its seed; printed so that a run explains itself.
package struct SwarmOptions: Sendable {
    package var nodes: Int
    package var regions: Int
    package var clients: Int
    package var keysPerRegion: Int
    package var appliesInline: Bool
    package var electionTimeoutMilliseconds: Int
    package var heartbeatIntervalMilliseconds: Int
    package var compactionInterval: Int
    package var maxUnflushedLogBytes: Int
    package var segmentBytes: Int
    package var groupsInFlight: Int
    package var maxGroupBytes: Int
    package var storeFlushesOneIn: UInt64
    package var laneLatency: ClosedRange<UInt64>
    package var workerLatency: ClosedRange<UInt64>
    /// The same of the worker that makes snapshots, where that is another: large ones take longer than a
    /// peer is waited for.
    package var makingLatency: ClosedRange<UInt64>?
    package var diskLatency: ClosedRange<UInt64>
    /// One in so many operations of a disk takes far longer than the others; 0: none.
    package var lateWritesOneIn: Int = 0
    package var networkLatency: ClosedRange<UInt64>
    package var reordersPackets: Bool
    package var splitsBatches: Bool
    package var clockDriftPerMillion: [Int64]
    /// The core's bounds; small ones reach what large ones hide.
    package var raft = RaftSizes()
    package var zeroesAhead = true
    /// Bodies that are this long are compressed; nil: none.
    package var compressionThresholdBytes: Int? = 8 << 10
    /// Whether nodes get entries that they cannot read from their peers, or stop.
    package var repairsDamage = true
    /// How fast full segments are checked in the background; 0: they are not.
    package var scrubBytesPerSecond = 0
    /// Whether peers that lag are left behind by the log, and get snapshots.
    package var leavesBehind = true
    package var maxLogEntries = 10_000
    package var maxLogBytes = 64 << 20
    package var rebalanceThreshold = 0.0
    package var snapshotChunkBytes = 512 << 10
    /// Whether the state is in memory only, and snapshots of it are kept.
    package var forgetsState = false
    /// Whether the disks have an fallocate.
    package var allocates = true
    /// What a power cut may tear a write into.
    package var tearBytes = 512
    /// Members of some region change once in so many milliseconds on average; nil: never.
    package var membersEveryMilliseconds: UInt64?
    /// Some region is divided once in so many milliseconds on average; nil: never.
    package var splitsEveryMilliseconds: UInt64?
    /// With so many operations a second, and with so many bytes, a region is divided by itself; 0: none is.
    package var splitLoadPerSecond = 0
    package var splitBytes = 0
    /// A node loses its disk once in so many milliseconds on average, while all places are filled; nil: never.
    package var wipesEveryMilliseconds: UInt64?
    /// Whether most nodes die for good in the end, and the others go on.
    package var losesQuorum = false
    /// Whether clients write in sessions.
    package var usesSessions = false
    /// What regions remember of sessions; small bounds reach what large ones hide.
    package var sessionLimits = SessionLimits()
    /// Of a hundred points in the code, how many may take their rare path; 0: none ever does.
    package var rarePercent: UInt64 = 0
    /// Which kinds of fault occur, and how often: one per this many milliseconds on average.
    package var faultKinds: [FaultKind]
    package var faultEveryMilliseconds: UInt64

    /// What a seed draws.
    ///
    /// - Parameters:
    ///   - nodes: How many instead of what is drawn; the other draws stay those of the seed.
    ///   - regions: The same for regions.
    package init(
        seed: UInt64, scenario: Scenario = .swarm, nodes: Int? = nil, regions: Int? = nil
    ) {
        var random = SeededRandom(seed: seed ^ 0x5357_4152_4d)
        func pick<T>(_ choices: [T]) -> T {
            choices[Int(random.next() % UInt64(choices.count))]
        }
        let drawnNodes = pick([3, 3, 3, 5, 5, 7])
        let drawnRegions = pick([1, 2, 3, 3, 5, 8, 16])
        self.nodes = nodes ?? drawnNodes
        self.regions = regions ?? drawnRegions
        clients = pick([2, 4, 6, 8, 12])
        keysPerRegion = pick([1, 2, 4, 8])
        appliesInline = pick([false, false, true])
        electionTimeoutMilliseconds = pick([300, 1000, 1000, 2000])
        heartbeatIntervalMilliseconds = electionTimeoutMilliseconds / 10
        compactionInterval = pick([4, 16, 64, 1000])
        maxUnflushedLogBytes = pick([16 << 10, 128 << 10, 1 << 20])
        segmentBytes = pick([16 << 10, 64 << 10, 256 << 10])
        groupsInFlight = pick([1, 2, 4, 8])
        maxGroupBytes = pick([4 << 10, 64 << 10, 1 << 20])
        storeFlushesOneIn = pick([0, 8, 64, 512])
        laneLatency = pick([0...1, 1_000...50_000, 5_000...500_000])
        workerLatency = pick([1_000...50_000, 50_000...5_000_000])
        diskLatency = pick([50_000...200_000, 100_000...2_000_000, 1_000_000...20_000_000])
        networkLatency = pick([20_000...200_000, 100_000...1_000_000, 1_000_000...30_000_000])
        reordersPackets = pick([false, true])
        splitsBatches = pick([false, false, true])
        let drift: Int64 = pick([0, 0, 100, 500])
        clockDriftPerMillion = (0..<self.nodes).map { _ in
            drift == 0 ? 0 : Int64(random.next() % UInt64(2 * drift + 1)) - drift
        }
        let possible = scenario.faultKinds
        faultKinds = possible.filter { _ in random.next() % 3 != 0 }
        if faultKinds.isEmpty { faultKinds = Array(possible.prefix(1)) }
        if scenario == .rot, !faultKinds.contains(.rot) { faultKinds.append(.rot) }
        faultEveryMilliseconds = pick([200, 500, 1000, 3000])
        drawRest(seed)
        drawSnapshots(seed)
        drawSessions(seed)
        drawStalls(seed, scenario)
        if scenario != .calm { drawLateWrites(seed) }
        if scenario == .nodes { drawNodes(seed) }
        guard scenario == .members || scenario == .splits else { return }
        // New peers begin with snapshots.
        leavesBehind = true
        membersEveryMilliseconds = [50, 150, 500, 1500][Int(random.next() % 4)]
        guard scenario == .splits else { return }
        splitsEveryMilliseconds = [200, 500, 1500, 4000][Int(random.next() % 4)]
        // There will be more regions than that.
        makingLatency = nil
        keysPerRegion = max(keysPerRegion, 4)
        if self.regions > 5 { self.regions = 3 }
        if random.next() % 2 == 0 { membersEveryMilliseconds = nil }
        drawOwnSplits(seed)
        drawDamage(seed)
    }

    /// Disks damage what they hold, too, in one seed of two.
    private mutating func drawDamage(_ seed: UInt64) {
        var random = SeededRandom(seed: seed ^ 0x4441_4d41)
        guard random.oneIn(2) else { return }
        faultKinds += Self.damage.filter { _ in random.next() % 3 != 0 }
    }

    private static let damage: [FaultKind] = [.corruption, .misdirection, .rottenEntries]

    /// Whether what is on a disk may be lost.
    var damagesDisks: Bool { faultKinds.contains(where: Self.damage.contains) }

    /// Half of the seeds have regions that are divided by themselves, with or without somebody who asks for
    /// it, too.
    private mutating func drawOwnSplits(_ seed: UInt64) {
        var random = SeededRandom(seed: seed ^ 0x4f57_4e53)
        guard random.oneIn(2) else { return }
        splitLoadPerSecond = [0, 3, 8, 25][Int(random.next() % 4)]
        splitBytes = [0, 1 << 10, 8 << 10][Int(random.next() % 3)]
        if splitLoadPerSecond == 0, splitBytes == 0 { splitLoadPerSecond = 5 }
        keysPerRegion = 12
        if random.oneIn(2) { splitsEveryMilliseconds = 4000 }
    }

    /// Drawn apart again.
    private mutating func drawSnapshots(_ seed: UInt64) {
        var random = SeededRandom(seed: seed ^ 0x534e_4150)
        func pick<T>(_ choices: [T]) -> T {
            choices[Int(random.next() % UInt64(choices.count))]
        }
        leavesBehind = pick([true, true, true, false])
        maxLogEntries = pick([1, 4, 16, 64, 10_000])
        maxLogBytes = pick([4 << 10, 64 << 20])
        var balance = SeededRandom(seed: seed ^ 0x4241_4c41)
        rebalanceThreshold = balance.oneIn(2) ? 0.2 : 0
        snapshotChunkBytes = pick([256, 4096, 512 << 10])
        forgetsState = pick([false, false, false, true])
        if forgetsState { appliesInline = true }
        var making = SeededRandom(seed: seed ^ 0x4d41_4b45)
        // So that all of them are made within the ten seconds of peace at the end.
        if electionTimeoutMilliseconds <= 300, regions <= 3, !forgetsState, making.oneIn(2) {
            makingLatency = 1_000_000...1_600_000_000
        }
    }

    /// Drawn apart again.
    private mutating func drawSessions(_ seed: UInt64) {
        var random = SeededRandom(seed: seed ^ 0x5345_5353)
        usesSessions = random.oneIn(2)
        sessionLimits.maxSessions = [2, 4, 4096][Int(random.next() % 3)]
        sessionLimits.maxIdleNanoseconds =
            [200_000_000, 3_000_000_000, sessionLimits.maxIdleNanoseconds][Int(random.next() % 3)]
        sessionLimits.maxAheadMilliseconds = [1_000, 60_000][Int(random.next() % 2)]
    }

    private mutating func drawNodes(_ seed: UInt64) {
        var random = SeededRandom(seed: seed ^ 0x4e4f_4445)
        // New peers begin with snapshots.
        leavesBehind = true
        wipesEveryMilliseconds = [1000, 3000, 8000][Int(random.next() % 3)]
        losesQuorum = true
    }

    /// Drawn apart, so that the choices above stay those of the seed.
    private mutating func drawRest(_ seed: UInt64) {
        var random = SeededRandom(seed: seed ^ 0x5241_5245)
        func pick<T>(_ choices: [T]) -> T {
            choices[Int(random.next() % UInt64(choices.count))]
        }
        rarePercent = pick([0, 10, 25, 50])
        // A peer that was away has to catch up in the ten seconds of peace at the end: no bound is so small
        // that the way there and back allows less.
        let isNear = networkLatency.upperBound <= 1_000_000 && diskLatency.upperBound <= 2_000_000
        raft.messageBytes = pick([isNear ? 1 : 16 << 10, 2048, 16 << 10, raft.messageBytes])
        let isWide = raft.messageBytes == 1 || !isNear
        raft.inflightMessages = pick([isWide ? 8 : 1, isWide ? 16 : 2, 8, raft.inflightMessages])
        raft.inflightBytes = max(raft.messageBytes, pick([16 << 10, raft.inflightBytes]))
        let isQuick = workerLatency.upperBound <= 50_000
        raft.committedBytesPerReady = pick([
            isQuick ? 1 : 2048, 2048, 16 << 10, raft.committedBytesPerReady,
        ])
        raft.uncommittedBytes = pick([16 << 10, raft.uncommittedBytes, raft.uncommittedBytes])
        zeroesAhead = pick([true, true, false])
        allocates = pick([true, true, true, false])
        tearBytes = pick([512, 4096])
        compressionThresholdBytes = pick([nil, 48, 256, 8 << 10])
        repairsDamage = pick([true, true, true, false])
        scrubBytesPerSecond = pick([0, 64 << 10, 1 << 20])
    }

    /// Whether any region is divided unasked.
    package var dividesThemselves: Bool { splitLoadPerSecond > 0 || splitBytes > 0 }

    /// The regions' ranges at the beginning.
    package var ranges: [KeyRange] { StaticRanges.ranges(count: regions) }

    private mutating func drawLateWrites(_ seed: UInt64) {
        var random = SeededRandom(seed: seed ^ 0x4c41_5445)
        // A disk on which every fourth vote takes longer than an election elects nobody, rightly.
        let latest = diskLatency.upperBound * DiskBehaviour.lateness
        guard latest < UInt64(electionTimeoutMilliseconds) * 1_000_000 else { return }
        lateWritesOneIn = [0, 0, 4, 16][Int(random.next() % 4)]
    }

    /// Two in three seeds whose scenario has slow disks have slow stores.
    private mutating func drawStalls(_ seed: UInt64, _ scenario: Scenario) {
        var random = SeededRandom(seed: seed ^ 0x5354_4f52)
        guard scenario.faultKinds.contains(.slowDisk), !random.oneIn(3) else { return }
        // A store in memory is never asked to wait.
        guard !appliesInline else { return }
        faultKinds.append(.stalledStore)
        guard random.oneIn(2) else { return }
        // Who comes back with entries to apply is left behind, and gets a snapshot meanwhile.
        leavesBehind = true
        maxLogEntries = 1
        compactionInterval = 4
    }

    package var description: String {
        "\(nodes) nodes, \(regions) regions, \(clients) clients, \(keysPerRegion) keys a region, "
            + "election \(electionTimeoutMilliseconds) ms, segments \(segmentBytes >> 10) KiB, "
            + "\(groupsInFlight) groups in flight, disk \(microseconds(diskLatency)), network "
            + "\(microseconds(networkLatency))\(reordersPackets ? " reordered" : ""), a fault every "
            + "\(faultEveryMilliseconds) ms of " + faultKinds.map(\.rawValue).joined(separator: " ")
            + "; " + details
    }

    private var details: String {
        let drift = clockDriftPerMillion.map { abs($0) }.max() ?? 0
        var words = [
            "state \(forgetsState ? "in snapshots" : appliesInline ? "in memory" : "on disk")",
            "lanes \(microseconds(laneLatency))", "workers \(microseconds(workerLatency))",
            "snapshots made in \(microseconds(makingLatency ?? workerLatency))",
            "groups of \(maxGroupBytes >> 10) KiB",
            compactionInterval == .max ? "no compaction" : "compaction every \(compactionInterval)",
            "flush at \(maxUnflushedLogBytes >> 10) KiB and one in \(storeFlushesOneIn)",
            lateWritesOneIn > 0 ? "one write in \(lateWritesOneIn) late" : "no write late",
            "drift up to \(drift) ppm", "torn at \(tearBytes)",
            "appends of \(raft.messageBytes) B, \(raft.inflightMessages) and "
                + "\(raft.inflightBytes) B in flight",
            membersEveryMilliseconds.map { "members change every \($0) ms" } ?? "members stay",
            splitsEveryMilliseconds.map { "a split every \($0) ms" } ?? "no splits",
            dividesThemselves
                ? "divided at \(splitLoadPerSecond) operations/s and \(splitBytes) B"
                : "none divided by itself",
            wipesEveryMilliseconds.map { "a disk lost every \($0) ms" } ?? "disks stay",
            rebalanceThreshold > 0 ? "leaders balanced" : "leaders stay",
            losesQuorum ? "most nodes die in the end" : "nodes stay",
            "pages of \(raft.committedBytesPerReady) B", "\(raft.uncommittedBytes) B uncommitted",
            "\(rarePercent) % of the rare paths on",
            sessionsInWords,
        ]
        if splitsBatches { words.append("messages one by one") }
        words.append(compressionThresholdBytes.map { "LZ4 from \($0) B" } ?? "no LZ4")
        words.append(repairsDamage ? "damage repaired" : "damage refused")
        words.append(
            scrubBytesPerSecond > 0 ? "\(scrubBytesPerSecond >> 10) KiB/s checked" : "no checks")
        words.append(
            leavesBehind
                ? "snapshots past \(maxLogEntries) entries or \(maxLogBytes >> 10) KiB in chunks of "
                    + "\(snapshotChunkBytes) B"
                : "no snapshots")
        if !zeroesAhead { words.append("nothing zeroed") }
        if !allocates { words.append("no fallocate") }
        return words.joined(separator: ", ")
    }

    private var sessionsInWords: String {
        guard usesSessions else { return "no sessions" }
        let idle = sessionLimits.maxIdleNanoseconds / 1_000_000
        return "\(sessionLimits.maxSessions) sessions a region, idle after \(idle) ms"
    }

    private func microseconds(_ range: ClosedRange<UInt64>) -> String {
        "\(range.lowerBound / 1000)-\(range.upperBound / 1000) us"
    }
}
