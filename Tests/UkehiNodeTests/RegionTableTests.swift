// The table of a node's regions agrees with the plainest one there is.

import Testing
import UkehiBase

@testable import UkehiNode

@Suite("table of regions")
struct RegionTableTests {
    private static func region(_ id: UInt64, _ lower: Bytes, _ upper: Bytes) -> RegionDescriptor {
        RegionDescriptor(
            region: RegionID(id), isSystem: false, range: KeyRange(lower: lower, upper: upper),
            epoch: RegionEpoch(confVersion: 1, version: 1), peers: [])
    }

    @Test("a region that is divided keeps its id, gets another place and lets the new ones in")
    func divided() {
        var table = RegionTable()
        table.insert([Self.region(2, "", "")])
        table.insert([
            Self.region(2, "p", ""), Self.region(9, "h", "p"), Self.region(7, "", "h"),
        ])
        #expect(table.ascending.map(\.region) == [RegionID(7), RegionID(9), RegionID(2)])
        #expect(table[RegionID(2)]?.range == KeyRange(lower: "p", upper: ""))
        #expect(table[RegionID(3)] == nil)
        table.remove(RegionID(9))
        table.remove(RegionID(9))
        #expect(table.ascending.map(\.region) == [RegionID(7), RegionID(2)])
        #expect(table.overlapping(KeyRange(lower: "h", upper: "p")).isEmpty)
        #expect(table.overlapping(KeyRange(lower: "g", upper: "")).count == 2)
        #expect(table.overlapping(KeyRange(lower: "z", upper: "")).map(\.region) == [RegionID(2)])
    }

    @Test("many random divisions and departures", arguments: 1...8 as ClosedRange<UInt64>)
    func random(seed: UInt64) throws {
        let random = NodeRandom(seed: seed)
        func below(_ bound: Int) -> Int { Int(random.next() % UInt64(bound)) }
        func key(_ number: Int) -> Bytes {
            Bytes([UInt8(number >> 8), UInt8(number & 255)])
        }
        var table = RegionTable()
        // What it must be equal to: bounds by number, in order.
        var plain: [(id: UInt64, lower: Int, upper: Int)] = [(1, 0, 60_000)]
        func made(_ row: (id: UInt64, lower: Int, upper: Int)) -> RegionDescriptor {
            Self.region(row.id, key(row.lower), key(row.upper))
        }
        table.insert(plain.map(made))
        var next: UInt64 = 2
        for _ in 0..<300 {
            let position = below(plain.count)
            let row = plain[position]
            if below(6) == 0, plain.count > 1 {
                plain.remove(at: position)
                table.remove(RegionID(row.id))
            } else {
                let cuts = Set((0..<1 + below(5)).map { _ in row.lower + 1 + below(400) })
                    .filter { $0 < row.upper }.sorted()
                var parts: [(id: UInt64, lower: Int, upper: Int)] = []
                var lower = row.lower
                for cut in cuts {
                    parts.append((next, lower, cut))
                    next += 1
                    lower = cut
                }
                parts.append((row.id, lower, row.upper))
                plain.replaceSubrange(position...position, with: parts)
                table.insert(parts.map(made).reversed())
            }
            #expect(table.ascending == plain.map(made))
            let probe = plain[below(plain.count)]
            #expect(table[RegionID(probe.id)] == made(probe))
            let from = below(60_000)
            let range = KeyRange(lower: key(from), upper: key(from + 1 + below(2000)))
            #expect(
                Array(table.overlapping(range))
                    == plain.map(made).filter { $0.range.overlaps(range) })
        }
    }
}
