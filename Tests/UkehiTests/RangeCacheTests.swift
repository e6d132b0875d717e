import Testing
import UkehiBase
import UkehiNode

@testable import Ukehi

@Suite("Range cache")
struct RangeCacheTests {
    private func info(
        _ region: UInt64, _ lower: Bytes, _ upper: Bytes, leader: UInt64? = nil
    ) -> RegionInfo {
        RegionInfo(
            region: RegionID(region), range: KeyRange(lower: lower, upper: upper),
            epoch: RegionEpoch(confVersion: 1, version: 1), leader: leader.map { NodeID($0) },
            nodes: [])
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
        for part in [info(3, "m", ""), info(2, "c", "m"), info(1, "", "b")] { cache.insert(part) }
        #expect(cache.region(of: "")?.region == RegionID(1))
        #expect(cache.region(of: "b") == nil)  // A gap.
        #expect(cache.region(of: "c")?.region == RegionID(2))
        #expect(cache.region(of: "lz")?.region == RegionID(2))
        #expect(cache.region(of: "m")?.region == RegionID(3))
        #expect(cache.region(of: "zzz")?.region == RegionID(3))
        #expect(cache.regionAtOrAbove("b")?.region == RegionID(2))
    }

    @Test("a newer region replaces all that it overlaps")
    func replacement() {
        var cache = RangeCache()
        for part in [info(1, "", "g"), info(2, "g", "p"), info(3, "p", "")] { cache.insert(part) }
        cache.insert(info(4, "f", "q", leader: 9))
        #expect(cache.all.map(\.region) == [RegionID(4)])
        #expect(cache.region(of: "a") == nil)
        #expect(cache.region(of: "p")?.leader == NodeID(9))
    }

    @Test("a leader that does not answer is forgotten, its region is not")
    func forgetting() {
        var cache = RangeCache()
        cache.insert(info(1, "", "", leader: 2))
        cache.forgetLeader(of: "k")
        #expect(cache.region(of: "k")?.region == RegionID(1))
        #expect(cache.region(of: "k")?.leader == nil)
        cache.insert(info(1, "", "", leader: 3))
        #expect(cache.region(of: "k")?.leader == NodeID(3))
    }
}
