// What kind of cluster and world a seed stands for. Swarm testing: each seed draws its own sizes,
// speeds and kinds of fault, so that rare combinations are reached (Groce et al., 2012).

package import UkehiBase
import UkehiNode

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
    /// None: how things are meant to be.
    case calm

    var faultKinds: [FaultKind] {
        switch self {
        case .swarm: FaultKind.allCases
        case .crashes: [.kill, .powerCut, .blackout, .crashAtWork]
        case .disks:
            [.slowDisk, .stalledDisk, .failedWrite, .diskFull, .corruption, .powerCut]
        case .network:
            [
                .loss, .duplication, .delay, .isolation, .oneWay, .split, .ring, .bridge, .flapping,
                .slowNode,
            ]
        case .time: [.pause, .clockJump, .clockDrift, .isolation, .kill]
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
    package var diskLatency: ClosedRange<UInt64>
    package var networkLatency: ClosedRange<UInt64>
    package var reordersPackets: Bool
    package var splitsBatches: Bool
    package var clockDriftPerMillion: [Int64]
    /// Which kinds of fault occur, and how often: one per this many milliseconds on average.
    package var faultKinds: [FaultKind]
    package var faultEveryMilliseconds: UInt64

    package init(seed: UInt64, scenario: Scenario = .swarm) {
        var random = SeededRandom(seed: seed ^ 0x5357_4152_4d)
        func pick<T>(_ choices: [T]) -> T {
            choices[Int(random.next() % UInt64(choices.count))]
        }
        nodes = pick([3, 3, 3, 5, 5, 7])
        regions = pick([1, 2, 3, 3, 5, 8, 16])
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
        clockDriftPerMillion = (0..<nodes).map { _ in
            drift == 0 ? 0 : Int64(random.next() % UInt64(2 * drift + 1)) - drift
        }
        let possible = scenario.faultKinds
        faultKinds = possible.filter { _ in random.next() % 3 != 0 }
        if faultKinds.isEmpty { faultKinds = Array(possible.prefix(1)) }
        faultEveryMilliseconds = pick([200, 500, 1000, 3000])
    }

    /// The regions' ranges at the beginning.
    package var ranges: [KeyRange] { StaticRanges.ranges(count: regions) }

    package var description: String {
        "\(nodes) nodes, \(regions) regions, \(clients) clients, \(keysPerRegion) keys a region, "
            + "election \(electionTimeoutMilliseconds) ms, segments \(segmentBytes >> 10) KiB, "
            + "\(groupsInFlight) groups in flight, disk \(microseconds(diskLatency)), network "
            + "\(microseconds(networkLatency))\(reordersPackets ? " reordered" : ""), a fault every "
            + "\(faultEveryMilliseconds) ms of " + faultKinds.map(\.rawValue).joined(separator: " ")
    }

    private func microseconds(_ range: ClosedRange<UInt64>) -> String {
        "\(range.lowerBound / 1000)-\(range.upperBound / 1000) us"
    }
}
