import Testing
import UkehiBase
import UkehiNode

@testable import Ukehi

@Suite("Range cache")
struct RangeCacheTests {
    private func info(
        _ region: UInt64, _ lower: Bytes, _ upper: Bytes, leader: UInt64? = nil,
        version: UInt64 = 1
    ) -> RegionInfo {
        RegionInfo(
            region: RegionID(region), range: KeyRange(lower: lower, upper: upper),
            epoch: RegionEpoch(confVersion: 1, version: version),
            leader: leader.map { NodeID($0) }, nodes: [])
    }

    @Test("an empty cache knows nothing")
    func empty() {
        let cache = RangeCache()
        #expect(cache.region(of: "a") == nil)
        #expect(cache.regionAtOrAbove("a") == nil)
    }

    @Test("a key is found in the range that holds it, bounds included and excluded")
    func lookup() {
        var cache = RangeCache()
        for part in [info(4, "m", ""), info(3, "c", "m"), info(2, "", "b")] { cache.insert(part) }
        #expect(cache.region(of: "")?.region == RegionID(2))
        #expect(cache.region(of: "b") == nil)  // A gap.
        #expect(cache.region(of: "c")?.region == RegionID(3))
        #expect(cache.region(of: "lz")?.region == RegionID(3))
        #expect(cache.region(of: "m")?.region == RegionID(4))
        #expect(cache.region(of: "zzz")?.region == RegionID(4))
        #expect(cache.regionAtOrAbove("b")?.region == RegionID(3))
    }

    @Test("a newer region replaces all that it overlaps")
    func replacement() {
        var cache = RangeCache()
        for part in [info(2, "", "g"), info(3, "g", "p"), info(4, "p", "")] { cache.insert(part) }
        cache.insert(info(5, "f", "q", leader: 9))
        #expect(cache.all.map(\.region) == [RegionID(5)])
        #expect(cache.region(of: "a") == nil)
        #expect(cache.region(of: "p")?.leader == NodeID(9))
    }

    @Test("who does not hold a region does not make its leader or its members forgotten")
    func hearsay() {
        func info(_ leader: UInt64?, conf: UInt64, version: UInt64 = 1, on nodes: [UInt64])
            -> RegionInfo
        {
            RegionInfo(
                region: RegionID(2), range: .all,
                epoch: RegionEpoch(confVersion: conf, version: version),
                leader: leader.map { NodeID($0) }, nodes: nodes.map { NodeID($0) })
        }
        func told(by node: UInt64, _ info: RegionInfo) -> Topology {
            Topology(
                cluster: ClusterID(high: 1, low: 1), node: NodeID(node), nodes: [],
                regions: [info])
        }
        var cache = RangeCache()
        let known = info(1, conf: 5, on: [1, 2])
        cache.replace(told(by: 1, known))
        cache.replace(told(by: 9, info(nil, conf: 5, on: [1, 2])))
        #expect(cache.all == [known])
        cache.replace(told(by: 9, info(nil, conf: 4, on: [1, 3])))
        #expect(cache.all == [known])
        // Of newer members it knows no leader; and who holds it knows that it has none.
        cache.replace(told(by: 9, info(nil, conf: 6, on: [2, 3])))
        #expect(cache.all == [info(nil, conf: 6, on: [2, 3])])
        cache.replace(told(by: 2, info(3, conf: 6, on: [2, 3])))
        cache.replace(told(by: 2, info(nil, conf: 6, on: [2, 3])))
        #expect(cache.all == [info(nil, conf: 6, on: [2, 3])])
    }

    @Test("of what several nodes tell the newest counts, whoever is asked first")
    func together() {
        func region(
            _ id: UInt64, _ range: KeyRange, _ leader: UInt64?, conf: UInt64, version: UInt64,
            _ nodes: [UInt64]
        )
            -> RegionInfo
        {
            RegionInfo(
                region: RegionID(id), range: range,
                epoch: RegionEpoch(confVersion: conf, version: version),
                leader: leader.map { NodeID($0) }, nodes: nodes.map { NodeID($0) })
        }
        func told(by node: UInt64, _ regions: RegionInfo...) -> Topology {
            Topology(
                cluster: ClusterID(high: 1, low: 1), node: NodeID(node), nodes: [],
                regions: regions)
        }
        let (left, right) = (KeyRange(lower: "", upper: "m"), KeyRange(lower: "m", upper: ""))
        // Node 3 holds the right part alone. Node 2 was not told that its peer is none any more; node 4 was not there
        // when the region was divided, and node 1 has both from the map.
        let whole = region(2, .all, 4, conf: 2, version: 1, [1, 2, 3, 4])
        let stale = region(2, right, 3, conf: 4, version: 2, [2, 3])
        let mapped = region(2, right, nil, conf: 5, version: 2, [3])
        let hearsay = region(7, left, 4, conf: 2, version: 2, [1, 2])
        let held = region(7, left, 2, conf: 2, version: 2, [1, 2])
        let told = [
            told(by: 1, hearsay, mapped), told(by: 2, held, stale), told(by: 4, whole),
        ]
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            var newest = NewestRegions()
            for position in order { newest.hear(told[position]) }
            #expect(newest.all == [held, mapped], "\(order)")
        }
    }

    @Test("an older region takes no newer one's place; a newer one takes that of all older ones")
    func versions() {
        var cache = RangeCache()
        let parts = [info(3, "", "g", leader: 2, version: 3), info(2, "g", "", version: 3)]
        for part in parts { cache.insert(part) }
        // From a node that lags: regions as they were before they were divided.
        cache.insert(info(2, "", "", leader: 9, version: 2))
        cache.insert(info(2, "d", "", leader: 9, version: 2))
        cache.insert(info(2, "g", "", leader: 9, version: 2))
        #expect(cache.all == parts)

        let newer = info(4, "c", "p", leader: 9, version: 4)
        cache.insert(newer)
        #expect(cache.all == [newer])

        // Newer than one, older than the other: not as it is now.
        let newest = info(5, "p", "", version: 6)
        cache.insert(newest)
        cache.insert(info(2, "", "", version: 5))
        #expect(cache.all == [newer, newest])
    }

    @Test("a leader that does not answer is forgotten, its region is not")
    func forgetting() {
        var cache = RangeCache()
        cache.insert(info(2, "", "", leader: 2))
        cache.forgetLeader(of: "k")
        #expect(cache.region(of: "k")?.region == RegionID(2))
        #expect(cache.region(of: "k")?.leader == nil)
        cache.insert(info(2, "", "", leader: 3))
        #expect(cache.region(of: "k")?.leader == NodeID(3))
    }

    @Test("the system region, whose keys are its own, takes no user region's place")
    func system() {
        var cache = RangeCache()
        cache.insert(info(2, "", ""))
        cache.insert(info(1, "", "", leader: 4))
        #expect(cache.region(of: "k")?.region == RegionID(2))
        #expect(cache.region(.system)?.leader == NodeID(4))
        #expect(cache.region(RegionID(2))?.leader == nil)
        cache.forgetLeader(of: .system)
        #expect(cache.region(.system)?.leader == nil)
    }
}
