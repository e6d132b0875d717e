import Testing
import UkehiBase
import UkehiNode
import UkehiState

@testable import UkehiCommand

/// A node that says what it knows and keeps what it is asked.
private final class TellingTarget: RequestTarget, @unchecked Sendable {
    // Safety: used on the test's thread only.
    var view: Topology?
    var keys: [Bytes] = []

    init(_ node: UInt64, _ regions: [(lower: Bytes, upper: Bytes, leader: UInt64?)]) {
        view = Topology(
            cluster: ClusterID(high: 1, low: 2), node: NodeID(node), nodes: [],
            regions: regions.enumerated().map { number, region in
                RegionInfo(
                    region: RegionID(UInt64(number + 2)),
                    range: KeyRange(lower: region.lower, upper: region.upper),
                    epoch: RegionEpoch(confVersion: 1, version: 1),
                    leader: region.leader.map { NodeID($0) }, nodes: [])
            })
    }

    override func submit(_ requests: inout [ClientRequest]) {
        keys += requests.map(\.key)
        requests.removeAll()
    }

    override func topology() async -> Topology? { view }
}

@Suite("bench: every client, every key")
struct RoutingBenchTests {
    private func submit(_ target: RequestTarget, _ keys: [Bytes]) {
        var requests = keys.map {
            ClientRequest(operation: .get(.stale), key: $0, sink: ReplySink(), tag: 0)
        }
        target.submit(&requests)
        #expect(requests.isEmpty)
    }

    @Test("requests go to whoever says that it leads itself")
    func routes() async throws {
        let one = TellingTarget(1, [("", "h", 1), ("h", "p", 1), ("p", "", 2)])
        // It leads the middle by now; the first has not heard of it.
        let two = TellingTarget(2, [("", "h", nil), ("h", "", 2)])
        let routed = RoutedTarget([one, two])
        let whole = try #require(await routed.topology())
        #expect(whole.regions.count == 1 && whole.regions[0].leader == whole.node)
        #expect(whole.regions[0].range == KeyRange(lower: "", upper: ""))
        submit(routed, ["a", "z", "p", "g"])
        #expect(one.keys == ["a", "g"] && two.keys == ["z", "p"])
    }

    @Test("while a key has no leader the load does not begin")
    func incomplete() async throws {
        let one = TellingTarget(1, [("", "h", 1), ("h", "", nil)])
        let two = TellingTarget(2, [("", "h", 1), ("h", "", nil)])
        let routed = RoutedTarget([one, two])
        #expect(await routed.topology()?.regions[0].leader == nil)
        two.view = TellingTarget(2, [("", "h", 1), ("h", "", 2)]).view
        #expect(await routed.topology()?.regions[0].leader != nil)
        // Once it has begun it goes on: who is asked refuses.
        two.view = nil
        submit(routed, ["z"])
        #expect(two.keys == ["z"])
    }

    @Test("covered, with a gap, with an open end, or twice")
    func cover() {
        func covers(_ ranges: [(Bytes, Bytes)]) -> Bool {
            RoutedTarget.cover(ranges.map { KeyRange(lower: $0.0, upper: $0.1) })
        }
        #expect(covers([("", "")]))
        #expect(covers([("h", ""), ("", "h")]))
        #expect(covers([("", "k"), ("h", "i"), ("h", "")]))
        #expect(!covers([]))
        #expect(!covers([("", "h"), ("i", "")]))
        #expect(!covers([("", "h"), ("h", "z")]))
        #expect(!covers([("a", "")]))
        #expect(
            RegionsRun.difference([
                KeyRange(lower: "", upper: "h"), KeyRange(lower: "h", upper: ""),
            ]) == nil)
        for wrong in [
            [], [("", "h")], [("a", "")], [("", "h"), ("i", "")], [("", "i"), ("h", "")],
            [("", ""), ("h", "")],
        ] as [[(Bytes, Bytes)]] {
            #expect(
                RegionsRun.difference(wrong.map { KeyRange(lower: $0.0, upper: $0.1) }) != nil)
        }
    }

    @Test("led ranges are found by key and by range, as one by one")
    func ledRanges() {
        let ranges = [("b", "d"), ("d", "f"), ("k", "m"), ("x", "")] as [(Bytes, Bytes)]
        let led = LedRanges(ranges.reversed().map { KeyRange(lower: $0.0, upper: $0.1) })
        let plain = ranges.map { KeyRange(lower: $0.0, upper: $0.1) }
        for first in UInt8(ascii: "a")...UInt8(ascii: "z") {
            let key = Bytes([first])
            #expect(led.contains(key) == plain.contains { $0.contains(key) })
            #expect(led.range(of: key) == plain.first { $0.contains(key) })
            for second in first + 1...UInt8(ascii: "z") + 1 {
                let range = KeyRange(lower: key, upper: Bytes([second]))
                #expect(led.overlaps(range) == plain.contains { $0.overlaps(range) })
            }
        }
    }

    @Test(
        "a plan of divisions leaves a region for each number",
        arguments: [2, 3, 64, 65, 66, 130, 1000, 10_000])
    func plan(count: Int) {
        let plan = DivisionPlan(count: count)
        // Regions by where they begin; each command takes new ones off the lower end of one.
        var starts: Set<Int> = [0]
        for command in [plan.first].filter({ !$0.isEmpty }) + plan.parts.flatMap({ $0 }) {
            #expect(command.count <= 64 && command == command.sorted())
            for start in command { #expect(starts.insert(start).inserted) }
        }
        #expect(starts == Set(0..<count))
        // Commands of one part divide one region after the other, upwards.
        for part in plan.parts {
            #expect(part.flatMap { $0 } == part.flatMap { $0 }.sorted())
        }
        #expect(plan.commandCount <= count / 64 + 67)
    }

    @Test("splits halve the longest stretch of keys")
    func halves() {
        let keys = (0..<100).map { Bytes([UInt8($0)]) }
        var plan = SplitPlan(keys: keys, starts: ["", Bytes([60])])
        #expect(plan.stretches == [0..<60, 60..<100])
        #expect(plan.next() == 30)
        #expect(plan.next() == 80)
        #expect(plan.stretches == [0..<30, 30..<60, 60..<80, 80..<100])
        var made = 2
        while plan.next() != nil { made += 1 }
        #expect(made == 98 && plan.stretches.allSatisfy { $0.count == 1 })
        var none = SplitPlan(keys: [], starts: [""])
        #expect(none.next() == nil)
    }
}
