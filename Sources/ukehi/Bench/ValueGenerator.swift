// The generated values: printable, about as compressible as business records, unique, checkable.
//
//   | stamp, 16 hexadecimal digits | text from the pool, from a place that the stamp decides |
//
// A stamp names one write of one client, so no two writes carry the same value and the whole value
// can be made again from its stamp: what is read back is compared byte for byte. The pool is larger
// than LZ4's window and smaller than a core's cache, so that a frame of many values does not compress by repetition of the pool.

import UkehiBase

/// Makes values of one size from stamps. Immutable and shared by all clients.
final class ValueGenerator: Sendable {
    /// Length of each value.
    let valueBytes: Int
    /// Where the text comes from.
    private let pool: Bytes

    static let poolBytes = 256 << 10
    /// Digits of the stamp at the start of a value.
    static let stampBytes = 16
    /// What the output says of the values. Measured with LZ4: 64 KiB of values of 128 bytes become
    /// 0.54 times as long, of 1 KiB 0.49; one value of 128 bytes alone hardly shrinks.
    static let compressibility = "text-like, 64 KiB of them shrink to about 0.54 with LZ4"

    init(valueBytes: Int, poolBytes: Int = ValueGenerator.poolBytes) {
        self.valueBytes = valueBytes
        pool = ValueGenerator.makePool(bytes: poolBytes)
    }

    /// Words of a small vocabulary between tokens of random letters, as in records of names,
    /// identifiers and states.
    static func makePool(bytes: Int) -> Bytes {
        let words = [
            "status=", "active", "pending", "\"name\":", "\"id\":", "order", "customer", "2026-",
            "false", "true", "null", "price", "EUR", "address", "street ", "the ", "and ", "of ",
            "city", "country", "updated", "created", "version", "quantity", "email", "@example.org",
        ].map { Array($0.utf8) }
        let letters = Array("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_".utf8)
        var random = BenchRandom(seed: 0x756B_6568_69)
        var text: [UInt8] = []
        text.reserveCapacity(bytes + 64)
        while text.count < bytes {
            for _ in 0..<5 + Int(random.next(below: 4)) {
                text += words[Int(random.next(below: UInt64(words.count)))]
            }
            for _ in 0..<2 + Int(random.next(below: 4)) {
                text.append(letters[Int(random.next(below: 64))])
            }
        }
        return Bytes(Array(text[0..<bytes]))
    }

    private static let hexPairs: [UInt16] = (0..<256).map { byte in
        let digits = Array("0123456789abcdef".utf8)
        return UInt16(digits[byte >> 4]) | UInt16(digits[byte & 15]) << 8
    }

    /// Writes the value of `stamp` at `target`, `valueBytes` long.
    func write(_ stamp: UInt64, to target: UnsafeMutableRawPointer) {
        if valueBytes >= ValueGenerator.stampBytes {
            ValueGenerator.writeHex(stamp, to: target)
            copyPool(
                to: target + ValueGenerator.stampBytes,
                count: valueBytes - ValueGenerator.stampBytes, stamp: stamp)
        } else {
            // Too short for the whole stamp: its last digits, which count the client's writes.
            withUnsafeTemporaryAllocation(byteCount: 16, alignment: 8) { digits in
                guard let base = digits.baseAddress else { return }
                ValueGenerator.writeHex(stamp, to: base)
                target.copyMemory(from: base + (16 - valueBytes), byteCount: valueBytes)
            }
        }
    }

    /// 16 lower-case hexadecimal digits, highest first.
    static func writeHex(_ value: UInt64, to target: UnsafeMutableRawPointer) {
        hexPairs.withUnsafeBufferPointer { pairs in
            for byte in 0..<8 {
                let pair = pairs[Int(truncatingIfNeeded: (value >> UInt64(56 - 8 * byte)) & 0xFF)]
                target.storeBytes(of: pair.littleEndian, toByteOffset: 2 * byte, as: UInt16.self)
            }
        }
    }

    private func copyPool(to target: UnsafeMutableRawPointer, count: Int, stamp: UInt64) {
        pool.withUnsafeBytes { pool in
            guard let base = pool.baseAddress, count > 0 else { return }
            let start = Int(truncatingIfNeeded: BenchRandom.mix(stamp) % UInt64(pool.count))
            var from = start
            var done = 0
            while done < count {
                let step = min(count - done, pool.count - from)
                (target + done).copyMemory(from: base + from, byteCount: step)
                done += step
                from = 0
            }
        }
    }

    /// The value of `stamp`, in memory of its own.
    func value(_ stamp: UInt64) -> Bytes {
        let scratch = UnsafeMutableRawBufferPointer.allocate(
            byteCount: max(valueBytes, 1), alignment: 8)
        defer { scratch.deallocate() }
        if let base = scratch.baseAddress { write(stamp, to: base) }
        return Bytes(copying: UnsafeRawBufferPointer(rebasing: scratch[0..<valueBytes]))
    }
}
