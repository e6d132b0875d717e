import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation
import UkehiState

@testable import UkehiNode

/// What a client knows of a key: the last acknowledged write, and writes that may yet appear.
private struct KeyHistory {
    var acknowledged: UInt64 = 0
    var possible: Set<UInt64> = [0]
}

/// Three nodes under power cuts, partitions and losses, all from one seed. Keys have one writer each,
/// whose values are numbered, so that every read can be judged on the spot: a linearizable read sees
/// the last acknowledged write or a later one whose outcome is not known.
private struct FaultRun {
    let cluster: TestCluster
    var random: UkehiSimulation.SeededRandom
    var keys: [KeyHistory]
    var writes: [(tag: UInt64, key: Int, number: UInt64)] = []
    var nextNumber: UInt64 = 1
    var down: Int?
    var acknowledgedWrites = 0
    var crashes = 0
    let seed: UInt64

    init(seed: UInt64) throws {
        self.seed = seed
        random = UkehiSimulation.SeededRandom(seed: seed)
        keys = Array(repeating: KeyHistory(), count: 24)
        cluster = TestCluster(nodes: 3, regions: 3, storeSeed: seed) { $0.compactionInterval = 8 }
        try cluster.startAll()
        cluster.pass(milliseconds: 2000)
    }

    private func name(_ key: Int) -> Bytes {
        // Spread over the three static regions.
        Bytes([UInt8(ascii: "0") + UInt8(key % 3) * 30, UInt8(key)])
    }

    mutating func write() throws {
        let key = Int(random.next() % UInt64(keys.count))
        guard let leader = cluster.leader(of: name(key)) else { return }
        let number = nextNumber
        nextNumber += 1
        keys[key].possible.insert(number)
        let command = Command.put(key: name(key), value: Bytes("\(number)"))
        let tag = cluster.submit(leader, .write(record: try command.encoded()), key: name(key))
        writes.append((tag, key, number))
    }

    /// Takes in what became of the writes so far.
    mutating func collect() {
        writes.removeAll { write in
            guard let reply = cluster.sink.replies.removeValue(forKey: write.tag) else {
                return false
            }
            switch reply {
            case .command(.applied):
                keys[write.key].acknowledged = max(keys[write.key].acknowledged, write.number)
                acknowledgedWrites += 1
            case .failed(.outcomeUnknown): break
            case .failed(.rejected):
                // A rejected write must never show up.
                keys[write.key].possible.remove(write.number)
            default: Issue.record("seed \(seed): a put was answered \(reply)")
            }
            return true
        }
    }

    mutating func read() {
        collect()
        let key = Int(random.next() % UInt64(keys.count))
        guard let leader = cluster.leader(of: name(key)) else { return }
        let before = keys[key].acknowledged
        guard case .value(let found)? = cluster.read(name(key), at: leader) else { return }
        let number = found.flatMap { UInt64(String(decoding: $0.value.array, as: UTF8.self)) } ?? 0
        #expect(
            number >= before && keys[key].possible.contains(number),
            "seed \(seed): key \(key) reads \(number), \(before) was acknowledged")
    }

    mutating func step() throws {
        switch random.next() % 16 {
        case 0...7: try write()
        case 8, 9: cluster.settle()
        case 10, 11: read()
        case 12:
            let lost = NodeID(random.next() % 3 + 1)
            cluster.network.drops = { $0.from == lost || $0.to == lost }
        case 13:
            var loss = UkehiSimulation.SeededRandom(seed: random.next())
            cluster.network.drops = { _ in loss.oneIn(5) }
        case 14: cluster.network.drops = { _ in false }
        default:
            if let number = down {
                try cluster.start(number)
                down = nil
            } else {
                let number = Int(random.next() % 3)
                cluster.crash(number, seed: random.next())
                down = number
                crashes += 1
            }
        }
        if random.oneIn(3) { cluster.pass(milliseconds: 100) }
    }

    /// Whether each region has applied the same index on every node.
    private var isEvenlyApplied: Bool {
        let applied = cluster.members.map { member in
            (member.core?.lanes ?? []).reduce(into: [RegionID: LogIndex]()) { applied, lane in
                for region in lane.orderedRegions { applied[region.id] = region.applied }
            }
        }
        return applied.dropFirst().allSatisfy { $0 == applied[0] }
    }

    /// No more faults: everything must come back, agree, and hold what was acknowledged.
    mutating func heal() throws {
        cluster.network.drops = { _ in false }
        if let number = down { try cluster.start(number) }
        cluster.pass(milliseconds: 10_000)
        collect()
        for key in keys.indices {
            guard let leader = cluster.leader(of: name(key)) else {
                Issue.record("seed \(seed): no leader after healing\n\(cluster.dump())")
                return
            }
            guard case .value(let found)? = cluster.read(name(key), at: leader) else {
                Issue.record("seed \(seed): no answer after healing\n\(cluster.dump())")
                return
            }
            let number =
                found.flatMap { UInt64(String(decoding: $0.value.array, as: UTF8.self)) } ?? 0
            #expect(
                number >= keys[key].acknowledged && keys[key].possible.contains(number),
                "seed \(seed): key \(key) ends at \(number), \(keys[key].acknowledged) was acknowledged"
            )
        }
        cluster.pass(milliseconds: 1000)
        // Regions have entries of their own now and then: one may be under way at this moment.
        for _ in 0..<50 where !isEvenlyApplied { cluster.pass(milliseconds: 20) }
        for region in cluster.members[0].core?.topology?.regions ?? [] {
            var digests = Set<RegionDigest>()
            for number in 0..<3 {
                let tag = cluster.submit(number, .digest, key: region.range.lower)
                cluster.settle()
                if case .digest(let digest)? = cluster.sink.replies[tag] { digests.insert(digest) }
            }
            #expect(digests.count == 1, "seed \(seed): replicas differ\n\(cluster.dump())")
        }
        #expect(cluster.failures.isEmpty, "seed \(seed)")
    }
}

@Suite("Nodes under faults")
struct RandomFaultTests {
    /// Seeds that once found something.
    ///
    /// - 3735: a leader that came back proposed a compaction behind its own older proposals, which
    ///   another leader had cut off; the queue was out of order and a client would have waited for
    ///   ever.
    static let pinnedSeeds = [3735]

    @Test(
        "no acknowledged write is lost, no read is stale, replicas agree",
        arguments: Array(1...40) + pinnedSeeds)
    func faults(seed: Int) throws {
        var run = try FaultRun(seed: UInt64(seed))
        for _ in 0..<500 { try run.step() }
        try run.heal()
        #expect(run.acknowledgedWrites > 20)
        #expect(run.crashes > 3)
    }

    @Test("the log is compacted behind the flush barrier, and a restart goes on from the store")
    func compaction() throws {
        let cluster = TestCluster(nodes: 3, regions: 1, storeSeed: 9, flushesUnasked: false) {
            $0.compactionInterval = 8
        }
        try cluster.startAll()
        cluster.pass(milliseconds: 2000)
        for number in 0..<100 {
            _ = try cluster.write(.put(key: Bytes("k\(number)"), value: Bytes("\(number)")))
        }
        cluster.pass(milliseconds: 2000)
        let region = RegionID(2)
        for member in cluster.members {
            // Agreed on, but nothing is flushed: the whole log is still there.
            #expect(member.core?.lanes[0].regions[region]?.log.firstIndex == LogIndex(1))
            member.store?.requestFlush()
            member.store?.completeFlush()
        }
        cluster.pass(milliseconds: 3000)
        for number in cluster.members.indices {
            let first = cluster.members[number].core?.lanes[0].regions[region]?.log.firstIndex
            #expect((first ?? .zero) > LogIndex(80))
            cluster.crash(number, seed: UInt64(number))
        }
        for number in cluster.members.indices { try cluster.start(number) }
        cluster.pass(milliseconds: 3000)
        let leader = try #require(cluster.leader(of: "k"))
        for number in 0..<100 {
            guard case .value(let value)? = cluster.read(Bytes("k\(number)"), at: leader) else {
                Issue.record("no answer")
                return
            }
            #expect(value?.value == Bytes("\(number)"))
        }
    }
}
