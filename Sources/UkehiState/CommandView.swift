// Hot path. Reading command records in place: pointers into the record, no copies, every bound
// checked. A view is valid only while the bytes it was made from are.

import UkehiBase

/// One command record, taken apart (layout: CommandRecord.swift).
package struct CommandView {
    package let kind: CommandKind
    package let key: UnsafeRawBufferPointer
    package let body: UnsafeRawBufferPointer
    /// The client's session and the command's number in it (SessionRecord.swift); 0 and 0 without one.
    package let session: UInt64
    package let sequence: UInt64
    /// The opaque header, empty without one.
    package let header: UnsafeRawBufferPointer
    /// Nanoseconds since 1970; 0: never.
    package let expiresAt: UInt64

    /// Takes apart `record`, which is one record from its first byte to its last.
    package init(record: UnsafeRawBufferPointer) throws(CommandError) {
        guard record.count >= CommandRecord.headerBytes,
            Int(record.u32(at: 0)) == record.count - 4
        else { throw .malformed }
        guard record.count <= CommandLimits.maxRecordBytes + 4 else { throw .recordTooLarge }
        guard let kind = CommandKind(rawValue: record[4]) else { throw .unknownKind }
        let flags = record[5]
        let keyLength = Int(record.u16(at: 6))
        guard keyLength <= CommandLimits.maxKeyBytes else { throw .keyTooLong }
        var at = CommandRecord.headerBytes
        var session: UInt64 = 0
        var sequence: UInt64 = 0
        var expiresAt: UInt64 = 0
        var header = UnsafeRawBufferPointer(start: nil, count: 0)
        if flags != 0 {
            guard flags & ~CommandRecord.knownFlags == 0 else { throw .unknownFlags }
            if flags & CommandRecord.sessionFlag != 0 {
                guard record.count - at >= 16 else { throw .malformed }
                session = record.u64(at: at)
                sequence = record.u64(at: at + 8)
                at += 16
                guard session != 0, SessionSequence(rawValue: sequence) != nil else {
                    throw .malformed
                }
            }
            if flags & CommandRecord.opaqueFlag != 0 {
                guard record.count - at >= 2 else { throw .malformed }
                let length = Int(record.u16(at: at))
                at += 2
                guard length > 0, record.count - at >= length else { throw .malformed }
                guard length <= CommandLimits.maxHeaderBytes else { throw .recordTooLarge }
                header = record.slice(at, length)
                at += length
            }
            if flags & CommandRecord.expiryFlag != 0 {
                guard record.count - at >= 8, kind == .put || kind == .compareAndSet else {
                    throw .malformed
                }
                expiresAt = record.u64(at: at)
                guard expiresAt != 0 else { throw .malformed }
                at += 8
            }
        }
        guard record.count - at >= keyLength else { throw .malformed }
        self.kind = kind
        self.session = session
        self.sequence = sequence
        self.header = header
        self.expiresAt = expiresAt
        key = record.slice(at, keyLength)
        body = record.slice(at + keyLength, record.count - at - keyLength)
    }

    /// Checks what the kind asks of the body.
    package func checkBody() throws(CommandError) {
        switch kind {
        case .put, .user:
            guard body.count <= CommandLimits.maxValueBytes else { throw .valueTooLarge }
        case .delete:
            guard body.isEmpty else { throw .malformed }
        case .deleteRange:
            guard body.count <= CommandLimits.maxKeyBytes else { throw .keyTooLong }
            guard body.isEmpty || order(key, body) < 0 else { throw .emptyRange }
        case .increment:
            guard body.count == 8 else { throw .malformed }
        case .compareAndSet:
            let condition = try condition()
            guard condition.puts || expiresAt == 0 else { throw .malformed }
        case .check:
            throw .unsupported
        case .batch:
            var nested = NestedRecords(body)
            var count = 0
            while let view = try nested.next() {
                // One encoding for each batch: it is routed by its first command's key.
                if count == 0, order(view.key, key) != 0 { throw .malformed }
                if view.kind != .check { try view.checkBody() } else { _ = try view.condition() }
                count += 1
                guard count <= CommandLimits.maxBatchCommands else { throw .badBatchSize }
            }
            guard count > 0 else { throw .badBatchSize }
        }
    }

    /// The amount of an increment.
    package func amount() throws(CommandError) -> Int64 {
        guard body.count == 8 else { throw .malformed }
        return Int64(bitPattern: body.u64(at: 0))
    }

    /// The condition of a compare-and-set or a check.
    package func condition() throws(CommandError) -> Condition {
        guard body.count >= 8, body.u16(at: 2) == 0 else { throw .malformed }
        let length = Int(body.u32(at: 4))
        guard length <= body.count - 8 else { throw .malformed }
        guard length <= CommandLimits.maxValueBytes else { throw .valueTooLarge }
        let operand = body.slice(8, length)
        let rest = body.slice(8 + length, body.count - 8 - length)
        let expected: Condition.Expected
        switch body[0] {
        case 0:
            guard length == 0 else { throw .malformed }
            expected = .absent
        case 1:
            guard length == 8 else { throw .malformed }
            expected = .version(operand.u64(at: 0))
        case 2: expected = .value(operand)
        default: throw .unknownKind
        }
        switch body[1] {
        case 0:
            guard rest.isEmpty else { throw .malformed }
            return Condition(expected: expected, puts: false, value: rest)
        case 1:
            guard kind == .compareAndSet else { throw .malformed }
            guard rest.count <= CommandLimits.maxValueBytes else { throw .valueTooLarge }
            return Condition(expected: expected, puts: true, value: rest)
        default: throw .malformed
        }
    }

    /// A condition in place.
    package struct Condition {
        package enum Expected {
            case absent
            case version(UInt64)
            case value(UnsafeRawBufferPointer)
        }
        package let expected: Expected
        /// Whether `value` is to be set; otherwise the key is removed.
        package let puts: Bool
        package let value: UnsafeRawBufferPointer
    }

    /// The command as a value of its own; the body was checked.
    package func command() throws(CommandError) -> Command {
        let key = Bytes(copying: key)
        let expiry = expiresAt == 0 ? nil : expiresAt
        switch kind {
        case .put: return .put(key: key, value: Bytes(copying: body), expiresAt: expiry)
        case .delete: return .delete(key: key)
        case .deleteRange: return .deleteRange(lower: key, upper: Bytes(copying: body))
        case .increment: return .increment(key: key, by: try amount())
        case .user: return .user(key: key, body: Bytes(copying: body))
        case .compareAndSet:
            let condition = try condition()
            return .compareAndSet(
                key: key, expected: condition.expected.value,
                value: condition.puts ? Bytes(copying: condition.value) : nil, expiresAt: expiry)
        case .check: return .check(key: key, expected: try condition().expected.value)
        case .batch:
            var commands: [Command] = []
            var nested = NestedRecords(body)
            while let view = try nested.next() { commands.append(try view.command()) }
            return .batch(commands)
        }
    }
}

extension CommandView.Condition.Expected {
    fileprivate var value: Expectation {
        switch self {
        case .absent: .absent
        case .version(let version): .version(version)
        case .value(let bytes): .value(Bytes(copying: bytes))
        }
    }
}

/// Walks the records inside a batch.
package struct NestedRecords {
    private let bytes: UnsafeRawBufferPointer
    private var at = 0

    package init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    /// The next record, nil at the end.
    package mutating func next() throws(CommandError) -> CommandView? {
        guard at < bytes.count else { return nil }
        guard bytes.count - at >= 4 else { throw .malformed }
        let length = Int(bytes.u32(at: at))
        guard length <= bytes.count - at - 4 else { throw .malformed }
        let record = bytes.slice(at, length + 4)
        at += length + 4
        let view = try CommandView(record: record)
        guard view.session == 0, view.sequence == 0, view.header.isEmpty,
            record[5] & ~CommandRecord.expiryFlag == 0
        else { throw .malformed }
        switch view.kind {
        case .put, .delete, .deleteRange, .increment, .check: return view
        case .compareAndSet, .batch, .user: throw .unsupported
        }
    }
}

extension UnsafeRawBufferPointer {
    /// Safety of these: callers have checked that the bytes are there.
    @inline(__always)
    func u16(at offset: Int) -> UInt16 {
        UInt16(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt16.self))
    }
    @inline(__always)
    func u32(at offset: Int) -> UInt32 {
        UInt32(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }
    @inline(__always)
    func u64(at offset: Int) -> UInt64 {
        UInt64(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }
    @inline(__always)
    func slice(_ offset: Int, _ count: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: self[offset..<offset + count])
    }
}
