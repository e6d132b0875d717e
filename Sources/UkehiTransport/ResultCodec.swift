// The bodies of replies that carry what UkehiState answers.
//
//   command | outcome u8, then | 0 applied: version u64 | 1 counter: value i64, version u64
//           | 2 conditionFailed, key present: version u64 | 3 conditionFailed, key absent
//           | 4 response: the bytes | 5 invalid: error u8 | 6 staleEpoch
//           | 7 sessionExpired: open at u64 |
//   value   | 0 u8: absent, or 1 u8, version u64, the value |
//   scan    | pairs u32 | pair × pairs | 0 u8: exhausted, or 1 u8: next key u32 + bytes |
//   pair    | version u64 | key u32 + bytes | value u32 + bytes |

import UkehiBase
import UkehiState

enum ResultCodec {
    private static let smallestPair = 16

    static func encode(_ result: CommandResult, into writer: inout ByteWriter) {
        switch result {
        case .applied(let version):
            writer.append(UInt8(0))
            writer.append(version)
        case .counter(let value, let version):
            writer.append(UInt8(1))
            writer.append(value)
            writer.append(version)
        case .conditionFailed(let current?):
            writer.append(UInt8(2))
            writer.append(current)
        case .conditionFailed(nil):
            writer.append(UInt8(3))
        case .response(let bytes):
            writer.append(UInt8(4))
            writer.append(bytes)
        case .invalid(let error):
            writer.append(UInt8(5))
            writer.append(error.rawValue)
        case .staleEpoch:
            writer.append(UInt8(6))
        case .sessionExpired(let openAt):
            writer.append(UInt8(7))
            writer.append(openAt)
        }
    }

    static func encode(_ value: VersionedValue?, into writer: inout ByteWriter) {
        guard let value else {
            writer.append(UInt8(0))
            return
        }
        writer.append(UInt8(1))
        writer.append(value.version)
        writer.append(value.value)
    }

    static func encode(_ page: ScanPage, into writer: inout ByteWriter) {
        writer.append(UInt32(page.pairs.count))
        for pair in page.pairs {
            writer.append(pair.version)
            writer.appendLengthPrefixed(pair.key)
            writer.appendLengthPrefixed(pair.value)
        }
        writer.append(UInt8(page.next == nil ? 0 : 1))
        if let next = page.next { writer.appendLengthPrefixed(next) }
    }

    static func decodeResult(_ reader: inout ByteReader) throws(DecodeError) -> CommandResult {
        let outcome = try reader.read(UInt8.self)
        switch outcome {
        case 0: return .applied(version: try reader.read(UInt64.self))
        case 1:
            let value = try reader.read(Int64.self)
            return .counter(value: value, version: try reader.read(UInt64.self))
        case 2: return .conditionFailed(current: try reader.read(UInt64.self))
        case 3: return .conditionFailed(current: nil)
        case 4: return .response(reader.readRest())
        case 5:
            let raw = try reader.read(UInt8.self)
            guard let error = CommandError(rawValue: raw) else {
                throw reader.failure("unknown command error \(raw)")
            }
            return .invalid(error)
        case 6: return .staleEpoch
        case 7: return .sessionExpired(openAt: try reader.read(UInt64.self))
        default: throw reader.failure("unknown command outcome \(outcome)")
        }
    }

    static func decodeValue(_ reader: inout ByteReader) throws(DecodeError) -> VersionedValue? {
        guard try isPresent(&reader) else { return nil }
        let version = try reader.read(UInt64.self)
        return VersionedValue(value: reader.readRest(), version: version)
    }

    static func decodePage(_ reader: inout ByteReader) throws(DecodeError) -> ScanPage {
        let count = Int(try reader.read(UInt32.self))
        guard count <= reader.remaining / smallestPair else {
            throw reader.failure("\(count) pairs claimed in \(reader.remaining) bytes")
        }
        var pairs: [KeyValue] = []
        pairs.reserveCapacity(count)
        for _ in 0..<count {
            let version = try reader.read(UInt64.self)
            let key = try reader.readLengthPrefixed()
            pairs.append(
                KeyValue(key: key, value: try reader.readLengthPrefixed(), version: version))
        }
        let next = try isPresent(&reader) ? try reader.readLengthPrefixed() : nil
        return ScanPage(pairs: pairs, next: next)
    }

    private static func isPresent(_ reader: inout ByteReader) throws(DecodeError) -> Bool {
        let flag = try reader.read(UInt8.self)
        guard flag <= 1 else { throw reader.failure("unknown presence \(flag)") }
        return flag == 1
    }
}
