// What a node remembers of the divisions that it led.

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState

@testable import UkehiNode

@Suite("records of splits")
struct SplitRecordTests {
    static func record(_ region: UInt64, _ children: [UInt64]) -> SplitRecord {
        SplitRecord(
            region: RegionID(region), children: children.map { RegionID($0) }, reason: .load,
            decidedAt: MonotonicTime(nanoseconds: 10), proposedAt: MonotonicTime(nanoseconds: 30),
            appliedAt: MonotonicTime(nanoseconds: 50))
    }

    @Test("the words of the reasons")
    func reasons() {
        #expect(
            SplitReason.allCases.map(\.description) == ["request", "size", "load", "end"])
        #expect(SplitReason.allCases.map(\.rawValue) == [1, 2, 3, 4])
    }

    @Test("a division has served when the last of its new regions does; the oldest are forgotten")
    func history() {
        let history = SplitHistory(capacity: 2)
        func time(_ nanoseconds: UInt64) -> MonotonicTime {
            MonotonicTime(nanoseconds: nanoseconds)
        }
        history.note(Self.record(1, [2, 3]), led: [RegionID(2), RegionID(3)])
        history.serves(RegionID(3), at: time(60))
        history.serves(RegionID(3), at: time(61))
        #expect(history.records[0].servedAt == nil && history.records[0].pauseNanoseconds == nil)
        history.serves(RegionID(2), at: time(70))
        #expect(history.records[0].servedAt == time(70))
        #expect(history.records[0].pauseNanoseconds == 20)
        #expect(history.records[0].heldNanoseconds == 40)
        #expect(history.records[0].nanosecondsToServe == 60)
        // One that is led elsewhere from the beginning never tells.
        history.note(Self.record(1, [4]), led: [])
        history.note(Self.record(1, [5]), led: [RegionID(5)])
        #expect(history.records.map(\.children) == [[RegionID(4)], [RegionID(5)]])
        history.note(Self.record(1, [6]), led: [RegionID(6)])
        history.note(Self.record(1, [7]), led: [RegionID(7)])
        // Its record is gone.
        history.serves(RegionID(5), at: time(80))
        history.serves(RegionID(6), at: time(90))
        #expect(history.records.map(\.servedAt) == [time(90), nil])
    }

    @Test("all parts serve without a tick of any clock")
    func quick() throws {
        let cluster = TestCluster(nodes: 3, regions: 1, storeSeed: 1)
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        for key in ["a", "n", "z"] as [Bytes] {
            _ = try cluster.write(.put(key: key, value: key))
        }
        let leader = try #require(cluster.leader(of: "a"))
        cluster.submit(leader, .split(["b", "o"]), key: "b")
        cluster.settle()
        let record = try #require(cluster.members[leader].core?.splitRecords().first)
        #expect(record.children.count == 2)
        #expect(record.servedAt == cluster.clock.now())
        for key in ["a", "n", "z"] as [Bytes] {
            guard case .command(.applied)? = try cluster.write(.put(key: key, value: "x")) else {
                Issue.record("\(key) was not written")
                continue
            }
        }
    }

    @Test("whoever led it remembers when it was decided, applied, and served; the others nothing")
    func cluster() throws {
        let cluster = TestCluster(nodes: 3, regions: 1, storeSeed: 1)
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        for key in ["a", "n", "z"] as [Bytes] {
            _ = try cluster.write(.put(key: key, value: key))
        }
        let leader = try #require(cluster.leader(of: "a"))
        let core = try #require(cluster.members[leader].core)
        // Refused: nothing to remember.
        cluster.submit(leader, .split(["zz"]), key: "zz")
        cluster.settle()
        // The leader's word does not get out: time passes before the others answer. Ids are given, though.
        let asked = cluster.clock.now()
        cluster.network.drops = { $0.messages.contains { $0.region == TestCluster.id } }
        let tag = cluster.submit(leader, .split(["m"]), key: "m")
        cluster.settle()
        #expect(core.splitRecords().isEmpty)
        cluster.clock.advance(milliseconds: 7)
        cluster.network.drops = { _ in false }
        cluster.pass(milliseconds: 1000)
        guard case .regions(let made)? = cluster.sink.replies[tag] else {
            Issue.record("not divided: \(String(describing: cluster.sink.replies[tag]))")
            return
        }
        let record = try #require(core.splitRecords().first)
        #expect(core.splitRecords().count == 1)
        #expect(record.region == made[1].region && record.children == [made[0].region])
        #expect(record.reason == .request)
        #expect(record.decidedAt == asked)
        let served = try #require(record.servedAt)
        #expect(record.proposedAt >= record.decidedAt)
        #expect(record.appliedAt.nanoseconds >= asked.nanoseconds + 7_000_000)
        #expect(served >= record.appliedAt && served <= cluster.clock.now())
        for (number, member) in cluster.members.enumerated() where number != leader {
            #expect(member.core?.splitRecords().isEmpty == true)
        }
    }
}
