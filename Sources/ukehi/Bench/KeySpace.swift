// The generated keys: number -> text of a fixed length.
//
//   | hash of the number, base 36 | number, base 36 |      k3v09q1x7z2b00lfls
//
// The hash spreads neighbours over the whole text key space (0-9, a-z), and so over the static
// regions; the number makes each key unique and lets a reader of a dump find it again. Which region
// a key is in depends, for almost all keys, on its first two characters alone: `pair(of:)` gives
// them without writing the key, so that clients can redraw cheaply.
//
// Where neighbours are to lie side by side the number comes first, and a hash fills the rest:
//
//   ascending   | number * 1296 / count | number, base 36 | hash |      all over the key space
//   appended    | zz                    | number, base 36 | hash |      at its end

import UkehiBase

/// `count` distinct keys of `keyBytes` bytes each.
struct KeySpace: Sendable {
    /// How keys lie by their numbers.
    enum Order: Sendable {
        /// All over the key space, without order.
        case scattered
        /// All over the key space, in the order of their numbers.
        case ascending
        /// The same, behind all other keys.
        case appended
    }

    /// How many keys; their numbers are `0..<count`.
    let count: UInt64
    /// Length of each key.
    let keyBytes: Int
    let order: Order
    /// Base-36 digits of the number.
    private let numberDigits: Int

    /// First two characters: 36 × 36.
    static let pairCount = 1296
    private static let alphabet = Array("0123456789abcdefghijklmnopqrstuvwxyz".utf8)
    /// Both characters of each pair, in the order they have in memory.
    private static let pairs: [UInt16] = (0..<pairCount).map {
        UInt16(alphabet[$0 / 36]) | UInt16(alphabet[$0 % 36]) << 8
    }

    /// The shortest keys that can tell `count` keys apart and still spread.
    static func minimumKeyBytes(count: UInt64) -> Int { 2 + digits(for: count) }

    private static func digits(for count: UInt64) -> Int {
        var digits = 1
        var reach: UInt64 = 36
        while reach < count {
            digits += 1
            let (product, overflow) = reach.multipliedReportingOverflow(by: 36)
            if overflow { break }
            reach = product
        }
        return digits
    }

    init(count: UInt64, keyBytes: Int, order: Order = .scattered) {
        invariant(count > 0 && keyBytes >= KeySpace.minimumKeyBytes(count: count), "keys too short")
        self.count = count
        self.keyBytes = keyBytes
        self.order = order
        numberDigits = KeySpace.digits(for: count)
    }

    /// The first two characters of key `number`, as `36 * first + second`.
    @inline(__always)
    func pair(of number: UInt64) -> Int {
        switch order {
        case .scattered: KeySpace.pair(of: BenchRandom.mix(number))
        case .ascending: Int(number * UInt64(KeySpace.pairCount) / count)
        case .appended: KeySpace.pairCount - 1
        }
    }

    /// The two characters that the upper bits of a hash stand for.
    @inline(__always)
    private static func pair(of hash: UInt64) -> Int {
        Int(truncatingIfNeeded: ((hash >> 48) * 1296) >> 16)
    }

    /// The two characters of `pair`, which all keys of that pair begin with.
    static func prefix(of pair: Int) -> [UInt8] { [alphabet[pair / 36], alphabet[pair % 36]] }

    /// Writes key `number` at `target`, `keyBytes` long.
    func write(_ number: UInt64, to target: UnsafeMutableRawPointer) {
        let hashed = keyBytes - numberDigits
        guard order != .scattered else {
            writeHash(of: number, to: target, count: hashed)
            return writeDigits(of: number, to: target + hashed)
        }
        let pair = KeySpace.pairs[pair(of: number)]
        target.storeBytes(of: pair.littleEndian, as: UInt16.self)
        writeDigits(of: number, to: target + 2)
        writeHash(of: number, to: target + 2 + numberDigits, count: hashed - 2)
    }

    /// `count` characters that look random.
    @inline(__always)
    private func writeHash(of number: UInt64, to target: UnsafeMutableRawPointer, count: Int) {
        var hash = BenchRandom.mix(number)
        var left = 4
        var at = 0
        KeySpace.pairs.withUnsafeBufferPointer { pairs in
            while at < count {
                let pair = pairs[KeySpace.pair(of: hash)]
                if at + 2 <= count {
                    target.storeBytes(of: pair.littleEndian, toByteOffset: at, as: UInt16.self)
                } else {
                    target.storeBytes(
                        of: UInt8(truncatingIfNeeded: pair), toByteOffset: at, as: UInt8.self)
                }
                at += 2
                hash <<= 16
                left -= 1
                if left == 0 {
                    hash = BenchRandom.mix(number ^ UInt64(truncatingIfNeeded: at) << 56)
                    left = 4
                }
            }
        }
    }

    @inline(__always)
    private func writeDigits(of number: UInt64, to target: UnsafeMutableRawPointer) {
        var rest = number
        KeySpace.alphabet.withUnsafeBufferPointer { alphabet in
            for digit in stride(from: numberDigits - 1, through: 0, by: -1) {
                target.storeBytes(
                    of: alphabet[Int(rest % 36)], toByteOffset: digit, as: UInt8.self)
                rest /= 36
            }
        }
    }

    /// Key `number`, in memory of its own.
    func key(_ number: UInt64) -> Bytes {
        let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: keyBytes, alignment: 8)
        defer { scratch.deallocate() }
        if let base = scratch.baseAddress { write(number, to: base) }
        return Bytes(copying: UnsafeRawBufferPointer(scratch))
    }
}
