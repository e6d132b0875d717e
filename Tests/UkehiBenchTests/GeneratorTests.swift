import Testing
import UkehiBase
import UkehiNode

@testable import UkehiCommand

/// Keys and values of the benchmark: what verification relies on.
@Suite("bench: generated keys and values")
struct GeneratorTests {
    @Test("keys are distinct, of the asked length, and text", arguments: [6, 7, 16, 33])
    func keysAreDistinct(keyBytes: Int) {
        let space = KeySpace(count: 20_000, keyBytes: keyBytes)
        var seen: Set<Bytes> = []
        for number in 0..<space.count {
            let key = space.key(number)
            #expect(key.count == keyBytes)
            seen.insert(key)
        }
        #expect(seen.count == 20_000)
        let isText = space.key(7).array.allSatisfy {
            ($0 >= 0x30 && $0 <= 0x39) || ($0 >= 0x61 && $0 <= 0x7A)
        }
        #expect(isText)
    }

    @Test("the pair of a key is what the key begins with")
    func pairIsThePrefix() {
        let space = KeySpace(count: 1_000_000, keyBytes: 16)
        for number in stride(from: UInt64(0), to: 1_000_000, by: 997) {
            let prefix = Array(space.key(number).array[0..<2])
            #expect(KeySpace.prefix(of: space.pair(of: number)) == prefix)
        }
    }

    @Test("keys spread over the text regions: none holds more than twice its share")
    func keysSpread() {
        let ranges = StaticRanges.ranges(count: 48)
        let space = KeySpace(count: 100_000, keyBytes: 16)
        var counts = [Int](repeating: 0, count: 48)
        for number in 0..<UInt64(20_000) {
            let key = space.key(number)
            guard let region = ranges.firstIndex(where: { $0.contains(key) }) else {
                Issue.record("a key in no region")
                return
            }
            counts[region] += 1
        }
        #expect(counts.max() ?? 0 < 2 * 20_000 / 48)
        #expect(counts.count { $0 > 200 } >= 36)
    }

    @Test("one digit of numbers more needs one byte of key more")
    func minimumLength() {
        #expect(KeySpace.minimumKeyBytes(count: 36) == 3)
        #expect(KeySpace.minimumKeyBytes(count: 37) == 4)
        #expect(KeySpace.minimumKeyBytes(count: 1_000_000) == 6)
    }

    @Test("a value begins with its stamp and can be made again", arguments: [16, 17, 128, 3 << 20])
    func valueIsItsStamps(valueBytes: Int) {
        let values = ValueGenerator(valueBytes: valueBytes)
        let value = values.value(0x0123_4567_89AB_CDEF)
        #expect(value.count == valueBytes)
        #expect(Array(value.array[0..<16]) == Array("0123456789abcdef".utf8))
        #expect(ValueGenerator(valueBytes: valueBytes).value(0x0123_4567_89AB_CDEF) == value)
        #expect(values.value(0x0123_4567_89AB_CDEE) != value)
    }

    @Test("short values keep the digits that count writes", arguments: [0, 1, 8, 15])
    func shortValues(valueBytes: Int) {
        let value = ValueGenerator(valueBytes: valueBytes).value(0x0123_4567_89AB_CDEF)
        #expect(value.array == Array("0123456789abcdef".utf8.suffix(valueBytes)))
    }

    @Test("two generators with one seed draw alike, with two seeds not")
    func randomIsSeeded() {
        var a = BenchRandom(seed: 7)
        var b = BenchRandom(seed: 7)
        var c = BenchRandom(seed: 8)
        let first = (0..<10).map { _ in a.next(below: 1000) }
        #expect(first == (0..<10).map { _ in b.next(below: 1000) })
        #expect(first != (0..<10).map { _ in c.next(below: 1000) })
        #expect(first.allSatisfy { $0 < 1000 })
    }
}
