// Regions that are divided by themselves.

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiState

@testable import UkehiNode

@Suite("regions that divide themselves")
struct AutoSplitTests {
    private func started(
        storeSeed: UInt64? = nil, load: Int = 0, bytes: Int = 0
    ) throws -> TestCluster {
        let cluster = TestCluster(nodes: 3, regions: 1, storeSeed: storeSeed) { options in
            options.splitLoadPerSecond = load
            options.splitBytes = bytes
        }
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        return cluster
    }

    private func key(_ number: Int) -> Bytes { Bytes("key-\(100_000 + number)") }

    private func regions(_ cluster: TestCluster) -> [RegionInfo] {
        let leader = cluster.leads() ?? 0
        return cluster.members[leader].core?.topology?.regions ?? []
    }

    private func put(_ cluster: TestCluster, _ key: Bytes, bytes: Int = 1) throws {
        let leader = cluster.leader(of: key) ?? 0
        let command = Command.put(key: key, value: Bytes([UInt8](repeating: 7, count: bytes)))
        cluster.submit(leader, .write(record: try command.encoded()), key: key)
    }

    /// Writes and reads for so long; how long it took until there were several regions.
    @discardableResult
    private func spend(
        _ cluster: TestCluster, milliseconds: Int, perTick: Int, _ key: (Int) -> Bytes
    ) throws -> Int? {
        var number = 0
        var divided: Int?
        for passed in stride(from: 50, through: milliseconds, by: 50) {
            for _ in 0..<perTick {
                let key = key(number)
                if number % 2 == 0 {
                    try put(cluster, key)
                } else {
                    cluster.submit(cluster.leader(of: key) ?? 0, .get(.linearizable), key: key)
                }
                number += 1
            }
            cluster.settle()
            cluster.pass(milliseconds: 50)
            if divided == nil, regions(cluster).count > 1 { divided = passed }
        }
        return divided
    }

    private func load(_ cluster: TestCluster, _ id: RegionID = TestCluster.id) throws -> RegionLoad
    {
        let leader = try #require(cluster.leads(id))
        return try #require(cluster.region(leader, id)).load
    }

    private func question(_ cluster: TestCluster, _ question: LoadQuestion) throws
        -> [RegionLoadInfo]
    {
        let leader = try #require(cluster.leads())
        let tag = cluster.submit(leader, .loads(question), key: "")
        cluster.settle()
        guard case .loads(let loads)? = cluster.sink.replies[tag] else {
            Issue.record("no loads were told")
            return []
        }
        return loads
    }

    @Test("a hot range is divided within five seconds", arguments: [nil, 1 as UInt64?])
    func hotRange(storeSeed: UInt64?) throws {
        let cluster = try started(storeSeed: storeSeed, load: 200)
        for number in stride(from: 0, to: 1000, by: 10) { try put(cluster, key(number)) }
        cluster.pass(milliseconds: 5000)
        #expect(regions(cluster).count == 1)
        // Nine of ten operations go to a twentieth of the keys.
        let took = try spend(cluster, milliseconds: 5000, perTick: 20) { number in
            key(number % 10 == 0 ? number * 7919 % 1000 : 500 + number * 31 % 50)
        }
        #expect(try #require(took) <= 5000)
        let bounds = regions(cluster).map(\.range.lower)
        #expect(bounds.contains { $0 > key(500) && $0 < key(550) })
        // The load is both halves' now, and the old one keeps what lies above.
        #expect(regions(cluster).last?.region == TestCluster.id)
        let loads = try question(cluster, LoadQuestion(top: 10))
        #expect(loads.count >= 2 && loads.allSatisfy { $0.operationsPerSecond > 50 })
        #expect(loads.contains { !$0.hot.isEmpty })
        #expect(cluster.failures.isEmpty)
    }

    @Test("nothing is divided without load")
    func idle() throws {
        let cluster = try started(load: 200, bytes: 1 << 20)
        for number in 0..<100 { try put(cluster, key(number)) }
        // A burst is no load that stays.
        cluster.pass(milliseconds: 20_000)
        try spend(cluster, milliseconds: 10_000, perTick: 4) { key($0 * 31 % 100) }
        #expect(regions(cluster).count == 1)
        #expect(try question(cluster, LoadQuestion(top: 1))[0].refusals.isEmpty)
        #expect(try question(cluster, LoadQuestion(top: 10)).count == 1)
    }

    @Test("one popular key is refused once, with its reason, and not again and again")
    func popularKey() throws {
        let cluster = try started(load: 200)
        for number in 0..<100 { try put(cluster, key(number)) }
        cluster.pass(milliseconds: 2000)
        var seen: Set<RememberedHindrance> = []
        for _ in 0..<60 {
            try spend(cluster, milliseconds: 500, perTick: 20) {
                key($0 % 20 == 0 ? $0 * 7 % 100 : 40)
            }
            if let hindrance = try load(cluster).hindrance { seen.insert(hindrance) }
        }
        #expect(regions(cluster).count == 1)
        #expect(seen.count == 1)
        guard case .oneKey(let percent)? = seen.first?.reason else {
            Issue.record("refused for another reason: \(seen)")
            return
        }
        #expect(percent > 80)
        let told = try question(cluster, LoadQuestion(region: TestCluster.id, top: 1))
        #expect(told.first?.refusals.first?.reason.hasPrefix("One key takes") ?? false)
        #expect(told.first?.hot.first?.first == key(40))
    }

    @Test("reads of keys that are not there make no region without keys")
    func emptyHalf() throws {
        let cluster = try started(load: 200)
        for key in ["a", "b", "c"] as [Bytes] { try put(cluster, key) }
        cluster.pass(milliseconds: 2000)
        var number = 0
        for _ in 0..<160 {
            for _ in 0..<20 {
                number += 1
                let key = Bytes("q\(number * 7919 % 1000)")
                cluster.submit(cluster.leader(of: key) ?? 0, .get(.linearizable), key: key)
            }
            cluster.settle()
            cluster.pass(milliseconds: 50)
        }
        #expect(regions(cluster).count == 1)
        #expect(try load(cluster).loadHindrance?.reason == .refused(.emptyHalf))
    }

    @Test("where keys are appended, what is there is divided from where they come")
    func appended() throws {
        let cluster = try started(load: 200, bytes: 1 << 30)
        var next = 0
        var regionsSeen: Set<Int> = []
        for _ in 0..<200 {
            for _ in 0..<20 {
                next += 1
                try put(cluster, key(next))
            }
            cluster.settle()
            cluster.pass(milliseconds: 50)
            regionsSeen.insert(regions(cluster).count)
        }
        // Once: a second time would leave too little below.
        #expect(regionsSeen == [1, 2])
        let bound = try #require(regions(cluster).last?.range.lower)
        #expect(bound > key(500))
        #expect(regions(cluster).last?.region == TestCluster.id)
        #expect(try load(cluster).loadHindrance?.reason == .appended)
        #expect(cluster.failures.isEmpty)
    }

    @Test("a large region is divided in equal parts", arguments: [nil, 1 as UInt64?])
    func size(storeSeed: UInt64?) throws {
        let cluster = try started(storeSeed: storeSeed, bytes: 100_000)
        for number in 0..<600 {
            try put(cluster, key(number), bytes: number < 300 ? 60 : 420)
            if number % 50 == 0 { cluster.settle() }
        }
        cluster.settle()
        cluster.pass(milliseconds: 30_000)
        let found = regions(cluster)
        #expect(found.count >= 3)
        let largest = found.map { region in
            (0..<600).filter { region.range.contains(key($0)) }
                .reduce(0) { $0 + 10 + ($1 < 300 ? 60 : 420) }
        }
        #expect(largest.allSatisfy { $0 > 20_000 && $0 < 100_000 }, "\(largest)")
        #expect(cluster.failures.isEmpty)
        let told = try question(cluster, LoadQuestion(top: 10))
        #expect(told.allSatisfy { $0.sizeBytes.map { $0 > 20_000 && $0 < 100_000 } ?? false })
    }

    @Test("a region of one key is not divided, however large it is")
    func oneKey() throws {
        let cluster = try started(bytes: 10_000)
        try put(cluster, "k", bytes: 50_000)
        cluster.settle()
        cluster.pass(milliseconds: 20_000)
        #expect(regions(cluster).count == 1)
        #expect(try load(cluster).sizeHindrance?.reason == .fewKeys)
    }

    @Test(
        "nothing is divided while members change, and a leader that goes takes what it knew with it"
    )
    func notNow() throws {
        let cluster = try started(load: 200)
        for number in 0..<100 { try put(cluster, key(number)) }
        cluster.pass(milliseconds: 1000)
        let leader = try #require(cluster.leads())
        cluster.region(leader)?.aim = MemberAim(wanted: [cluster.node(0), cluster.node(1)])
        cluster.region(leader)?.aim?.progress = .waiting
        cluster.region(leader)?.aim?.isAskingForID = true
        cluster.region(leader)?.aim?.askedTick = .max - 1000
        try spend(cluster, milliseconds: 6000, perTick: 20) { key($0 * 31 % 100) }
        #expect(regions(cluster).count == 1)
        let told = try question(cluster, LoadQuestion(region: TestCluster.id, top: 1))
        let now = SplitRefusalInfo(
            cause: .load, reason: "\(SplitHindrance.membersChange)", secondsAgo: 0)
        #expect(told.first?.refusals == [now])
        // It is as good as an order: tried again each second, and done as soon as it can be.
        let heir = (leader + 1) % 3
        cluster.members[leader].core?.lanes[0].transferLeadership(
            of: TestCluster.id, to: try cluster.peer(on: heir))
        cluster.settle()
        cluster.pass(milliseconds: 200)
        #expect(cluster.leads() == heir)
        #expect(cluster.region(leader)?.load.meter.last.operations == 0)
        #expect(cluster.region(leader)?.load.samples.samples.isEmpty ?? false)
    }

    @Test("an answer with ids that never comes is waited for, and the next one is not taken for it")
    func lostIDs() throws {
        let cluster = try started(load: 0)
        for number in 0..<100 { try put(cluster, key(number)) }
        cluster.pass(milliseconds: 1000)
        let leader = try #require(cluster.leads())
        let lane = try #require(cluster.members[leader].core?.lanes[0])
        let region = try #require(cluster.region(leader))
        region.splitAsks = 7
        region.splitWaiter = SplitWaiter(ask: 7, askedTick: lane.ticks)
        lane.post(.splitAt(TestCluster.id, ask: 6, [key(50)], firstID: 900))
        cluster.settle()
        #expect(region.splitWaiter?.index == .zero)
        cluster.pass(milliseconds: 9000)
        #expect(region.splitWaiter != nil)
        cluster.pass(milliseconds: 3000)
        #expect(region.splitWaiter == nil)
        lane.post(.splitAt(TestCluster.id, ask: 7, [key(50)], firstID: 900))
        cluster.settle()
        #expect(regions(cluster).count == 1)
    }
}
