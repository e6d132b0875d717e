// The map of regions by itself: reports in any order lead to the regions as they are.

import Synchronization
import Testing
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiSimulation
import UkehiState

@testable import UkehiNode

@Suite("map of regions")
struct RegionMapTests {
    private static func region(
        _ id: UInt64, _ lower: Bytes, _ upper: Bytes, version: UInt64 = 1, members: UInt64 = 1
    ) -> RegionDescriptor {
        RegionDescriptor(
            region: RegionID(id), isSystem: false, range: KeyRange(lower: lower, upper: upper),
            epoch: RegionEpoch(confVersion: members, version: version),
            peers: [PeerDescriptor(peer: PeerID(id * 10), node: NodeID(1))])
    }

    private static func change(
        _ region: RegionDescriptor, generation: UInt64 = 0, revision: UInt64 = 0
    ) -> MappedRegion {
        MappedRegion(
            report: RegionReport(region, generation: generation), revision: revision)
    }

    @Test("the newer report is taken, and what it leaves no room for goes")
    func newer() {
        var map = RegionMap()
        let whole = Self.region(2, "", "", members: 3)
        #expect(map.take([Self.change(whole)]).taken.count == 1)
        #expect(map.take([Self.change(whole)]).taken.isEmpty)
        #expect(map.take([Self.change(Self.region(2, "", "", members: 2))]).taken.isEmpty)
        // The new region is heard of first.
        let child = Self.region(5, "", "h", version: 2)
        let (taken, superseded) = map.take([Self.change(child)])
        #expect(taken.count == 1 && superseded == [RegionID(2)])
        #expect(map.region(of: "a") == child && map.region(of: "h") == nil)
        // Late, and from before.
        #expect(map.take([Self.change(whole)]).taken.isEmpty)
        let rest = Self.region(2, "h", "", version: 2)
        #expect(map.take([Self.change(rest)]).superseded.isEmpty)
        #expect(map.regions == [child, rest])
        #expect(map.region(of: "h") == rest && map[RegionID(5)] == child)
        // Of the same version as what is there: one of them is wrong, and nobody knows which.
        #expect(map.take([Self.change(Self.region(9, "c", "d", version: 2))]).taken.isEmpty)
        // A recovery from a lost quorum undid the division.
        let again = map.take([Self.change(whole, generation: 1)])
        #expect(again.superseded == [RegionID(5)] && map.regions == [whole])
        #expect(map.take([Self.change(child)]).taken.isEmpty)
        // Both at once, in any order.
        for changes in [[child, rest], [rest, child]] {
            var map = RegionMap()
            _ = map.take([Self.change(whole)])
            #expect(map.take(changes.map { Self.change($0) }).superseded.isEmpty)
            #expect(map.regions == [child, rest])
        }
        var system = Self.region(1, "", "")
        system.isSystem = true
        #expect(map.take([Self.change(system, generation: 9)]).taken.isEmpty)
    }

    @Test(
        "reports in any order lead to the regions as they are",
        arguments: 1...20 as ClosedRange<UInt64>)
    func anyOrder(seed: UInt64) throws {
        let random = NodeRandom(seed: seed)
        func below(_ bound: Int) -> Int { Int(random.next() % UInt64(bound)) }
        // The truth, region by region, and everything that was ever true.
        var truth: [RegionDescriptor] = [Self.region(2, "", "")]
        var reports = [Self.change(truth[0])]
        var next: UInt64 = 3
        for _ in 0..<120 {
            let place = below(truth.count)
            var region = truth[place]
            if below(3) == 0 {
                region.epoch.confVersion += 1
                truth[place] = region
                reports.append(Self.change(region))
                continue
            }
            let key = Bytes([UInt8(below(256)), UInt8(below(256))])
            guard key > region.range.lower, region.range.contains(key) else { continue }
            var child = Self.region(
                next, region.range.lower, key, version: region.epoch.version + 1)
            child.epoch.confVersion = region.epoch.confVersion
            next += 1
            region.epoch.version += 1
            region.range = KeyRange(lower: key, upper: region.range.upper)
            truth.replaceSubrange(place...place, with: [child, region])
            reports += [Self.change(child), Self.change(region)]
        }
        // Some are reported again after a recovery that changed nothing else.
        var generations: [RegionID: UInt64] = [:]
        for place in truth.indices where below(4) == 0 {
            reports.append(Self.change(truth[place], generation: 1))
            truth[place].epoch.confVersion += 1
            generations[truth[place].region] = 1
        }
        // The last ones arrive, whatever was before; some twice.
        let last = truth.map { Self.change($0, generation: generations[$0.region] ?? 0) }
        var sent = reports.filter { _ in below(3) > 0 } + last
        for position in sent.indices.reversed() { sent.swapAt(position, below(position + 1)) }
        sent += last

        var leader = RegionMap()
        // What the system region has.
        var store: [RegionID: MappedRegion] = [:]
        var follower = RegionMap()
        var revision: UInt64 = 0
        func follow() {
            let (changes, reached) = leader.changes(
                after: follower.revision, maxBytes: below(600))
            guard let sent = try? MappedRegion.decode(MappedRegion.encoded(changes)) else {
                Issue.record("what was told cannot be read")
                return
            }
            _ = follower.take(sent)
            follower.reached(reached)
        }
        while !sent.isEmpty {
            let batch = sent.prefix(1 + below(9))
            sent.removeFirst(batch.count)
            let before = leader
            let (taken, superseded) = leader.take(Array(batch))
            // Somebody asks while that is being written.
            if below(3) == 0 { follow() }
            guard below(6) > 0 else {
                // The write comes to nothing, and with it the leader; the next one is told again.
                leader = RegionMap()
                _ = leader.take(Array(store.values))
                leader.reached(store.values.map(\.revision).max() ?? 0)
                sent = Array(batch) + sent
                continue
            }
            revision += 1
            for region in superseded { store[region] = nil }
            for change in taken {
                store[change.report.region.region] = MappedRegion(
                    report: change.report, revision: revision)
            }
            leader.stored(taken.map(\.report.region.region), at: revision)
            let map = leader.regions
            #expect(
                zip(map, map.dropFirst()).allSatisfy { !$0.range.overlaps($1.range) })
            for region in superseded { #expect(leader[region] == nil) }
            for region in before.regions where !superseded.contains(region.region) {
                let now = try #require(leader[region.region])
                #expect(now.epoch.version >= region.epoch.version)
                #expect(now.epoch.confVersion >= region.epoch.confVersion)
            }
            if below(4) == 0 { follow() }
        }
        #expect(leader.regions == truth)
        while follower.revision < leader.revision {
            let (changes, reached) = leader.changes(after: follower.revision, maxBytes: 100)
            #expect(reached > follower.revision)
            _ = follower.take(changes)
            follower.reached(reached)
        }
        #expect(follower.regions == truth)
    }

    @Test("who asks while a region's next record is being written gets the region all the same")
    func whileWritten() {
        var leader = RegionMap()
        _ = leader.take([Self.change(Self.region(2, "", "x"), revision: 20)])
        _ = leader.take([Self.change(Self.region(9, "x", ""), revision: 40)])
        leader.reached(40)
        // Divided, and not written yet.
        let halves = [
            Self.region(5, "", "h", version: 2), Self.region(2, "h", "x", version: 2),
        ]
        _ = leader.take(halves.map { Self.change($0) })
        var follower = RegionMap()
        let (changes, reached) = leader.changes(after: 0, maxBytes: 1 << 20)
        #expect(reached == 40)
        _ = follower.take(changes)
        #expect(follower.regions == halves + [Self.region(9, "x", "")])
    }

    @Test(
        "records and changes are read to the last byte; cut, flipped or lying ones are refused or harmless"
    )
    func bytes() throws {
        let report = RegionReport(Self.region(7, "d", "p", version: 4), generation: 3)
        let record = report.encoded()
        #expect(try RegionReport.decode(record) == report)
        let changes = [
            Self.change(Self.region(7, "d", "p", version: 4), generation: 3, revision: 88),
            Self.change(Self.region(9, "p", ""), revision: 90),
        ]
        let sent = MappedRegion.encoded(changes)
        #expect(try MappedRegion.decode(sent) == changes)
        for length in 0..<record.count {
            #expect(throws: DecodeError.self) { try RegionReport.decode(record[0..<length]) }
        }
        for length in 0..<sent.count {
            #expect(throws: DecodeError.self) { try MappedRegion.decode(sent[0..<length]) }
        }
        for bytes in [record, sent] {
            for bit in 0..<bytes.count * 8 {
                var flipped = bytes.array
                flipped[bit / 8] ^= 1 << UInt8(bit % 8)
                // What is read all the same can be taken in.
                var map = RegionMap()
                if let report = try? RegionReport.decode(Bytes(flipped)) {
                    _ = map.take([MappedRegion(report: report, revision: 1)])
                }
                if let changes = try? MappedRegion.decode(Bytes(flipped)) { _ = map.take(changes) }
            }
        }
        var system = Self.region(1, "", "")
        system.isSystem = true
        #expect(throws: DecodeError.self) {
            try RegionReport.decode(RegionReport(system, generation: 0).encoded())
        }
        #expect(throws: DecodeError.self) {
            try MappedRegion.decode(Bytes([0xff, 0xff, 0xff, 0xff]))
        }
        #expect(SystemKey.region(of: SystemKey.region(RegionID(300))) == RegionID(300))
        #expect(SystemKey.region(of: "region/300") == nil && SystemKey.region(of: "ids") == nil)
        #expect(SystemKey.region(RegionID(255)) < SystemKey.region(RegionID(256)))
    }
}
