// The ack log: one line per acknowledged write, for checkers that kill and restart nodes.
//
//   81234567890123 <TAB> 0000010000000007 <TAB> k3v09q1x7z2b00lf <TAB> 9ae16a3b2f90404f \n
//   when told (CLOCK_MONOTONIC, ns)  operation id  key                digest of the value
//
// The operation id is the stamp that a generated value begins with. The digest is FNV-1a, 64 bits,
// of the whole value; a delete has `-`. Bytes of a key that are not printable ASCII, and `%`, are
// written as %XX. A line is made when the client is told, never before.

import UkehiBase

/// Makes lines on a client's lane and hands them to the writer in chunks. One lane's alone.
struct AckLog: ~Copyable {
    private var text = ByteWriter(chunkCapacity: 256 << 10)
    private var handedOver: UInt64 = 0
    private let writer: ChunkWriter

    init(writer: ChunkWriter) { self.writer = writer }

    /// One acknowledged write; a nil value is a delete.
    mutating func note(
        at time: UInt64, operation: UInt64, key: UnsafeRawBufferPointer,
        value: UnsafeRawBufferPointer?
    ) {
        text.appendDecimal(time)
        text.append(UInt8(ascii: "\t"))
        text.appendHex(operation)
        text.append(UInt8(ascii: "\t"))
        text.appendEscaped(key)
        text.append(UInt8(ascii: "\t"))
        if let value { text.appendHex(FNV1a.digest(value)) } else { text.append(UInt8(ascii: "-")) }
        text.append(UInt8(ascii: "\n"))
    }

    /// Hands over what is there, if it is much or has waited for 5 ms.
    mutating func flush(now: UInt64, always: Bool = false) {
        guard text.count > 64 << 10 || always || now &- handedOver > 5_000_000 else { return }
        handedOver = now
        writer.append(text.take())
    }
}

/// FNV-1a with 64 bits: five lines in any language, so that any checker can compare values.
enum FNV1a {
    static func digest(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return hash
    }
}

extension ByteWriter {
    /// Decimal digits.
    mutating func appendDecimal(_ value: UInt64) {
        withUnsafeTemporaryAllocation(byteCount: 20, alignment: 1) { digits in
            var at = 20
            var rest = value
            repeat {
                at -= 1
                digits[at] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
                rest /= 10
            } while rest > 0
            append(UnsafeRawBufferPointer(rebasing: digits[at..<20]))
        }
    }

    /// 16 hexadecimal digits.
    mutating func appendHex(_ value: UInt64) {
        withUnsafeTemporaryAllocation(byteCount: 16, alignment: 1) { digits in
            guard let base = digits.baseAddress else { return }
            ValueGenerator.writeHex(value, to: base)
            append(UnsafeRawBufferPointer(digits))
        }
    }

    /// Printable ASCII as it is, the rest and `%` as %XX.
    mutating func appendEscaped(_ bytes: UnsafeRawBufferPointer) {
        for byte in bytes {
            if byte > 0x20 && byte < 0x7F && byte != UInt8(ascii: "%") {
                append(byte)
            } else {
                let digits = Array("0123456789ABCDEF".utf8)
                append(UInt8(ascii: "%"))
                append(digits[Int(byte >> 4)])
                append(digits[Int(byte & 15)])
            }
        }
    }

    /// Text as it is.
    mutating func append(text: StaticString) {
        append(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    /// A JSON string.
    mutating func appendQuoted(_ bytes: UnsafeRawBufferPointer) {
        append(UInt8(ascii: "\""))
        for byte in bytes {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                append(UInt8(ascii: "\\"))
                append(byte)
            case 0x20..<0x7F: append(byte)
            default:
                // Not text: each byte as the character of that number, so that equal stays equal.
                let digits = Array("0123456789abcdef".utf8)
                append(text: "\\u00")
                append(digits[Int(byte >> 4)])
                append(digits[Int(byte & 15)])
            }
        }
        append(UInt8(ascii: "\""))
    }
}
