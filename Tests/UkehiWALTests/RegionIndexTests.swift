// The index in memory: against a naive twin, and how large it is.

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation

@testable import UkehiWAL

/// Where each entry of a region is, one by one.
private struct NaiveIndex {
    struct Place: Equatable {
        var segment: UInt32
        var offset: UInt32
    }
    var places: [UInt64: Place] = [:]

    mutating func append(_ block: IndexBlock) {
        for index in places.keys where index >= block.first { places[index] = nil }
        for index in block.first..<block.end {
            places[index] = Place(segment: block.segment, offset: block.bodyOffset)
        }
    }
}

@Suite("The index in memory")
struct RegionIndexTests {
    @Test("blocks say of each entry what a table of entries says", arguments: UInt64(1)...20)
    func twin(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var index = RegionIndex()
        var naive = NaiveIndex()
        var first: UInt64 = 1
        var next: UInt64 = 1
        var copies: [(index: RegionIndex, live: [IndexBlock])] = []
        for step in 0..<600 {
            switch Int.random(in: 0..<12, using: &random) {
            case 0 where next > first:
                first = UInt64.random(in: first...next, using: &random)
                index.compact(to: first)
            case 1 where random.oneIn(10):
                index.removeAll()
                naive = NaiveIndex()
                first = next
            case 2 where random.oneIn(5):
                copies.append((index, index.live))
            default:
                var start = next
                if next > first, random.oneIn(6) {
                    start = UInt64.random(in: first..<next, using: &random)
                }
                let block = IndexBlock(
                    first: start, count: UInt32.random(in: 1...9, using: &random),
                    segment: UInt32(step / 40), bodyOffset: UInt32(step), bodyBytes: 10,
                    rawBytes: 10, bodyChecksum: 0)
                index.append(block, firstIndex: LogIndex(first))
                naive.append(block)
                next = block.end
            }
            for entry in first..<next {
                let block = index.position(of: entry).flatMap { index.block(at: $0) }
                let place = block.map {
                    NaiveIndex.Place(segment: $0.segment, offset: $0.bodyOffset)
                }
                try #require(place == naive.places[entry], "entry \(entry) at step \(step)")
            }
            #expect(index.position(of: next) == nil)
            #expect(index.isEmpty == (index.count == 0))
            #expect(index.live.first == index.first && index.live.last == index.last)
            #expect(index.live.count == index.count)
            if let begin = index.firstIndex { #expect(begin.rawValue <= first) }
        }
        // Copies that others hold have not changed.
        for copy in copies { #expect(copy.index.live == copy.live) }
    }

    @Test(
        "entries that are put elsewhere are found there, the others where they were",
        arguments: UInt64(1)...20)
    func replacing(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var index = RegionIndex()
        var naive = NaiveIndex()
        var first: UInt64 = 1
        var next: UInt64 = 1
        for step in 1...800 {
            func block(_ range: Range<UInt64>) -> IndexBlock {
                IndexBlock(
                    first: range.lowerBound, count: UInt32(range.count),
                    segment: UInt32(step / 40 + 1), bodyOffset: UInt32(step), bodyBytes: 10,
                    rawBytes: 10, bodyChecksum: 0)
            }
            switch Int.random(in: 0..<9, using: &random) {
            case 0 where next > first:
                first = UInt64.random(in: first...next, using: &random)
                index.compact(to: first)
            case 1..<4 where !index.isEmpty:
                // Some neighbours, from what is needed of the first of them on.
                let live = index.live
                let low = Int.random(in: 0..<live.count, using: &random)
                let high = min(low + Int.random(in: 0..<4, using: &random), live.count - 1)
                let range = max(live[low].first, first)..<live[high].end
                try #require(index.canReplace(upTo: range.upperBound))
                #expect(
                    live[high].count < 2 || !index.canReplace(upTo: live[high].end - 1))
                let copy = index
                index.replace(with: block(range), firstIndex: LogIndex(first))
                for entry in range {
                    naive.places[entry] = NaiveIndex.Place(
                        segment: UInt32(step / 40 + 1), offset: UInt32(step))
                }
                #expect(copy.live == live)
            default:
                var start = next
                if next > first, random.oneIn(6) {
                    start = UInt64.random(in: first..<next, using: &random)
                }
                next = start + UInt64.random(in: 1...9, using: &random)
                index.append(block(start..<next), firstIndex: LogIndex(first))
                naive.append(block(start..<next))
            }
            for entry in first..<next {
                let block = index.position(of: entry).flatMap { index.block(at: $0) }
                let place = block.map {
                    NaiveIndex.Place(segment: $0.segment, offset: $0.bodyOffset)
                }
                try #require(place == naive.places[entry], "entry \(entry) at step \(step)")
            }
            #expect(index.covers(first..<next) && !index.covers(first..<next + 1))
            guard let oldest = index.live.map(\.segment).min() else { continue }
            for asks in [false, true] {
                if asks { index.findOldest(oldest) }
                #expect(index.holds(oldest) && !index.holds(oldest - 1))
                var found: [IndexBlock] = []
                index.forEach(in: oldest) {
                    found.append($0)
                    return true
                }
                #expect(found == index.live.filter { $0.segment == oldest })
            }
        }
    }

    @Test("a table of regions finds each again, and no other", arguments: UInt64(1)...4)
    func table(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let table = RegionTable()
        var slots: [RegionID: Int] = [:]
        for step in 0..<3000 {
            // Consecutive ids, multiples of a power of two, and any.
            let id: UInt64 =
                switch step % 3 {
                case 0: UInt64(step)
                case 1: UInt64(step) << 40
                default: random.next()
                }
            let region = RegionID(id)
            #expect(table.find(region) == slots[region])
            let slot = table.slot(of: region)
            if let known = slots[region] { #expect(slot == known) } else { slots[region] = slot }
            table[slot].staged.lastLSN = id & 0xffff
        }
        #expect(table.count == slots.count)
        for (region, slot) in slots {
            #expect(table.find(region) == slot)
            #expect(table[slot].region == region)
            #expect(table[slot].staged.lastLSN == region.rawValue & 0xffff)
            #expect(table[slot].staged.isEndKnown && table[slot].staged.isBaseKnown)
        }
    }

    @Test("entries in batches of 16 take at most 16 bytes of index each")
    func bytesPerEntry() {
        for batches in [1, 3, 9, 100, 1000] {
            var index = RegionIndex()
            for batch in 0..<batches {
                index.append(
                    IndexBlock(
                        first: UInt64(batch * 16 + 1), count: 16, segment: 1, bodyOffset: 0,
                        bodyBytes: 16 * 144, rawBytes: 16 * 144, bodyChecksum: 0),
                    firstIndex: LogIndex(1))
            }
            #expect(index.allocatedBytes <= 16 * 16 * batches)
        }
    }

    @Test("entries before a beginning that is not durable yet are needed until it is")
    func beginningUnderWay() {
        var log = RegionLog(region: RegionID(2), isNew: true)
        var reset = BatchItem(region: RegionID(2), kind: .reset)
        reset.firstIndex = LogIndex(101)
        for (first, count) in [(1, 5), (3, 2)] as [(UInt64, UInt32)] {
            var item = BatchItem(region: RegionID(2), kind: .append)
            item.firstIndex = LogIndex(first)
            item.count = count
            #expect(
                log.staged.apply(item, body: UnsafeRawBufferPointer(start: nil, count: 0)) == nil)
            if first == 3 {
                let problem = log.staged.apply(
                    reset, body: UnsafeRawBufferPointer(start: nil, count: 0))
                #expect(problem == nil)
                var earlier = item
                earlier.firstIndex = LogIndex(1)
                earlier.count = 5
                log.becameDurable(earlier, segment: 1, bodyOffset: 8192)
                log.becameDurable(item, segment: 2, bodyOffset: 8192)
            }
        }
        #expect(log.index.live.map(\.first) == [1, 3])
        #expect(log.index.live.map(\.count) == [2, 2])
        #expect(log.hasEntries(in: 1))
        log.becameDurable(reset, segment: 2, bodyOffset: 12288)
        #expect(log.index.isEmpty && log.firstIndex == LogIndex(101))
    }

    /// Beside what its owner said of it, which has the length that it has.
    @Test("a region at rest takes at most 100 bytes", arguments: [10_000, 14_500, 30_000])
    func bytesAtRest(regions: Int) {
        #expect(MemoryLayout<RegionLog>.stride == 88)
        let table = RegionTable()
        for position in 0..<regions {
            let slot = table.slot(of: RegionID(UInt64(position) + 2))
            var item = BatchItem(region: table[slot].region, kind: .append)
            item.flags = BatchItem.hasHardState
            item.count = 20
            item.firstIndex = LogIndex(1)
            var compaction = BatchItem(region: table[slot].region, kind: .compact)
            compaction.firstIndex = LogIndex(21)
            for record in [item, compaction] {
                let problem = table[slot].staged.apply(
                    record, body: UnsafeRawBufferPointer(start: nil, count: 0))
                #expect(problem == nil)
                table[slot].becameDurable(record, segment: 1, bodyOffset: 8192)
            }
        }
        var bytes = table.allocatedBytes
        for slot in 0..<table.count { bytes += table[slot].index.allocatedBytes }
        #expect(bytes <= 100 * regions, "\(Double(bytes) / Double(regions)) a region")
    }
}
