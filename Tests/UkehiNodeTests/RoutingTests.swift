import Testing
import UkehiBase

@testable import UkehiNode

@Suite("Routing")
struct RoutingTests {
    private func router(_ ranges: [KeyRange]) -> Router {
        Router(
            ranges.enumerated().map {
                Router.Route(region: RegionID(UInt64($0 + 2)), range: $1, lane: 0)
            })
    }

    @Test("static ranges hold every key exactly once", arguments: [1, 2, 3, 16, 48, 1000, 4096])
    func staticRangesCover(count: Int) {
        let ranges = StaticRanges.ranges(count: count)
        #expect(ranges.count == count)
        #expect(ranges.first?.lower.isEmpty == true && ranges.last?.upper.isEmpty == true)
        for (left, right) in zip(ranges, ranges.dropFirst()) { #expect(left.upper == right.lower) }
    }

    @Test("hashed text keys spread: no region of 48 gets more than three times its share")
    func textKeysSpread() {
        let router = router(StaticRanges.ranges(count: 48))
        let digits = Array("0123456789abcdefghijklmnopqrstuvwxyz".utf8)
        var counts: [RegionID: Int] = [:]
        var random: UInt64 = 88_172_645_463_325_252
        for _ in 0..<48_000 {
            var key: [UInt8] = []
            for _ in 0..<16 {
                random ^= random << 13
                random ^= random >> 7
                random ^= random << 17
                key.append(digits[Int(random % 36)])
            }
            counts[router.route(for: Bytes(key))?.region ?? RegionID(0), default: 0] += 1
        }
        #expect(counts[RegionID(0)] == nil)
        #expect(counts.values.allSatisfy { $0 < 3000 })
        #expect(counts.count >= 36)
    }

    @Test("the router agrees with a linear search, gaps and shared prefixes included")
    func agreesWithLinearSearch() {
        let bounds: [Bytes] = [
            "", "a", "aaaaaaaa", "aaaaaaaab", "aaaaaaaac", "b", [0x62, 0], "c", "zzzzzzzzzzzz",
        ]
        var ranges: [KeyRange] = []
        for (position, bound) in bounds.enumerated() where position != 5 {
            let upper = position + 1 < bounds.count ? bounds[position + 1] : Bytes()
            ranges.append(KeyRange(lower: bound, upper: upper))
        }
        let router = router(ranges)
        var keys = bounds
        for bound in bounds {
            keys.append(Bytes(bound.array + [0]))
            keys.append(Bytes(bound.array + [0xFF]))
            keys.append(Bytes(bound.array.dropLast()))
        }
        for key in keys {
            let expected = ranges.first { $0.contains(key) }
            #expect(router.route(for: key)?.range == expected)
        }
        #expect(Router([]).route(for: "a") == nil)
    }
}
