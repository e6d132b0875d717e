// Hot path. The bytes of one command: what a client sends, what a lane copies into an entry, what
// apply decodes. Never re-encoded.
//
//   record | length u32 | kind u8 | flags u8 | key length u16 |
//          | session u64 | sequence u64 |      if flag 0x01: SessionRecord.swift
//          | length u16 | opaque header |      if flag 0x02
//          | expires at u64 |                  if flag 0x04: nanoseconds since 1970, never 0
//          | key | body |
//
//   kind              body
//   1 put             the value
//   2 delete          nothing
//   3 deleteRange     the upper key, empty: no upper end; the record's key is the lower one
//   4 compareAndSet   expectation, then the new value | nothing
//   5 increment       amount i64
//   6 batch           records of kinds 1, 2, 3, 5 and 7, without session and header; the batch's
//                     key is the first one's
//   7 check           expectation
//   8 user            the embedder's bytes
//
//   expectation | kind u8: 0 absent, 1 version, 2 value | outcome u8: 0 delete, 1 put |
//               | 0 u16 | length u32 of what follows: 0, 8 or the value's | version u64 or value |
//
// `length` counts what follows it. Integers are little-endian. Unknown kinds and flags are refused.
// Changing anything here changes entry format version 1 (docs/FORMATS.md). Read by
// CommandView.swift; the golden bytes are in Tests/UkehiStateTests/GoldenBytesTests.swift.

package import UkehiBase

/// What a record asks for.
package enum CommandKind: UInt8, Sendable, Hashable {
    case put = 1
    case delete = 2
    case deleteRange = 3
    case compareAndSet = 4
    case increment = 5
    case batch = 6
    case check = 7
    case user = 8
}

/// Writes and checks command records.
package enum CommandRecord {
    /// Bytes before a record's optional fields.
    @usableFromInline package static let headerBytes = 8
    static let kindOffset = 4

    /// The key of a record, which decides its region; nil if the record is none.
    package static func key(of record: Bytes) -> Bytes? {
        record.withUnsafeBytes { bytes in
            (try? CommandView(record: bytes)).map { Bytes(copying: $0.key) }
        }
    }
    @usableFromInline static let sessionFlag: UInt8 = 0x01
    @usableFromInline static let opaqueFlag: UInt8 = 0x02
    @usableFromInline static let expiryFlag: UInt8 = 0x04
    @usableFromInline static let knownFlags: UInt8 = 0x07

    /// What a record may carry beside its command.
    package struct Options: Sendable {
        /// A client's session and the command's number in it: makes retries exactly-once (RULES
        /// 75).
        package var session: (id: UInt64, sequence: UInt64)?
        /// Bytes the engine keeps with the command and does not read.
        package var header = Bytes()

        package init(session: (id: UInt64, sequence: UInt64)? = nil, header: Bytes = Bytes()) {
            self.session = session
            self.header = header
        }
    }

    // MARK: Encoding from pointers

    /// Appends a put; no allocation beside the writer's. Lengths were checked by
    /// ``check(key:value:)``.
    @inlinable
    package static func appendPut(
        key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer, to writer: inout ByteWriter
    ) {
        appendPlain(.put, key: key, body: value, to: &writer)
    }

    /// Appends a delete.
    @inlinable
    package static func appendDelete(key: UnsafeRawBufferPointer, to writer: inout ByteWriter) {
        appendPlain(
            .delete, key: key, body: UnsafeRawBufferPointer(start: nil, count: 0), to: &writer)
    }

    /// Appends a command of an embedder's state machine.
    @inlinable
    package static func appendUser(
        key: UnsafeRawBufferPointer, body: UnsafeRawBufferPointer, to writer: inout ByteWriter
    ) {
        appendPlain(.user, key: key, body: body, to: &writer)
    }

    /// Whether a put, delete or user command is within the limits.
    @inlinable
    package static func check(key: Int, value: Int) throws(CommandError) {
        if key > CommandLimits.maxKeyBytes { throw .keyTooLong }
        if value > CommandLimits.maxValueBytes { throw .valueTooLarge }
    }

    @inlinable
    static func appendPlain(
        _ kind: CommandKind, key: UnsafeRawBufferPointer, body: UnsafeRawBufferPointer,
        to writer: inout ByteWriter
    ) {
        writer.reserve(headerBytes + key.count + body.count)
        writer.append(UInt32(headerBytes - 4 + key.count + body.count))
        writer.append(UInt32(kind.rawValue) | UInt32(UInt16(key.count)) << 16)
        writer.append(key)
        writer.append(body)
    }

    // MARK: Checking

    /// Checks one record completely and returns its routing key, sharing the record's memory.
    package static func validate(_ record: Bytes) throws(CommandError) -> Bytes {
        // Not by closure result: typed errors and slices cross more cheaply this way.
        try record.withUnsafeBytes { bytes throws(CommandError) in
            let view = try CommandView(record: bytes)
            try view.checkBody()
            guard let base = bytes.baseAddress, let key = view.key.baseAddress else {
                return Bytes()
            }
            let offset = key - base
            return record[offset..<offset + view.key.count]
        }
    }

    /// Whether a record's command writes no value: a delete, by condition or not, or a batch of such.
    package static func onlyDeletes(_ record: UnsafeRawBufferPointer) -> Bool {
        guard let view = try? CommandView(record: record) else { return false }
        switch view.kind {
        case .delete, .deleteRange: return true
        case .compareAndSet: return (try? view.condition())?.puts == false
        case .batch:
            var nested = NestedRecords(view.body)
            do throws(CommandError) {
                while let view = try nested.next() {
                    guard [.delete, .deleteRange, .check].contains(view.kind) else { return false }
                }
                return true
            } catch {
                return false
            }
        case .put, .increment, .check, .user: return false
        }
    }

    /// Decodes a record into a value: for tools and tests.
    package static func decode(_ record: Bytes) throws(CommandError) -> Command {
        try record.withUnsafeBytes { bytes throws(CommandError) in
            let view = try CommandView(record: bytes)
            try view.checkBody()
            return try view.command()
        }
    }
}

extension Command {
    /// Appends the command's record; appends nothing if it throws.
    package func encode(
        into writer: inout ByteWriter, options: CommandRecord.Options = CommandRecord.Options()
    ) throws(CommandError) {
        let start = writer.count
        do throws(CommandError) {
            try encode(into: &writer, options: options, isNested: false)
            if writer.count - start > CommandLimits.maxRecordBytes { throw .recordTooLarge }
        } catch {
            writer.truncate(to: start)
            throw error
        }
    }

    /// The command's record.
    package func encoded(
        options: CommandRecord.Options = CommandRecord.Options()
    ) throws(CommandError) -> Bytes {
        var writer = ByteWriter(chunkCapacity: 128)
        try encode(into: &writer, options: options)
        return writer.take()
    }

    private func encode(
        into writer: inout ByteWriter, options: CommandRecord.Options, isNested: Bool
    ) throws(CommandError) {
        let start = writer.count
        let key = self.key
        if key.count > CommandLimits.maxKeyBytes { throw .keyTooLong }
        if options.header.count > CommandLimits.maxHeaderBytes { throw .recordTooLarge }
        let expiry = try expiryField()
        var flags: UInt8 = 0
        if options.session != nil { flags |= CommandRecord.sessionFlag }
        if !options.header.isEmpty { flags |= CommandRecord.opaqueFlag }
        if expiry != 0 { flags |= CommandRecord.expiryFlag }
        writer.append(UInt32(0))
        writer.append(kind.rawValue)
        writer.append(flags)
        writer.append(UInt16(key.count))
        if let session = options.session {
            writer.append(session.id)
            writer.append(session.sequence)
        }
        if !options.header.isEmpty {
            writer.append(UInt16(options.header.count))
            writer.append(options.header)
        }
        if expiry != 0 { writer.append(expiry) }
        writer.append(key)
        try encodeBody(into: &writer, isNested: isNested)
        let length = writer.count - start - 4
        if length > CommandLimits.maxRecordBytes { throw .recordTooLarge }
        writer.overwrite(UInt32(length), at: start)
    }

    private func encodeBody(into writer: inout ByteWriter, isNested: Bool) throws(CommandError) {
        switch self {
        case .put(_, let value, _):
            try Command.appendValue(value, to: &writer)
        case .user(_, let body):
            if isNested { throw .unsupported }
            try Command.appendValue(body, to: &writer)
        case .delete:
            break
        case .deleteRange(let lower, let upper):
            if upper.count > CommandLimits.maxKeyBytes { throw .keyTooLong }
            if !upper.isEmpty, upper <= lower { throw .emptyRange }
            writer.append(upper)
        case .increment(_, let amount):
            writer.append(amount)
        case .compareAndSet(_, let expected, let value, _):
            if isNested { throw .unsupported }
            try Command.appendExpectation(expected, outcome: value == nil ? 0 : 1, to: &writer)
            if let value { try Command.appendValue(value, to: &writer) }
        case .check(_, let expected):
            if !isNested { throw .unsupported }
            try Command.appendExpectation(expected, outcome: 0, to: &writer)
        case .batch(let commands):
            if isNested { throw .unsupported }
            guard (1...CommandLimits.maxBatchCommands).contains(commands.count) else {
                throw .badBatchSize
            }
            for command in commands {
                try command.encode(
                    into: &writer, options: CommandRecord.Options(), isNested: true)
                if writer.count > 2 * CommandLimits.maxRecordBytes { throw .recordTooLarge }
            }
        }
    }

    private var kind: CommandKind {
        switch self {
        case .put: .put
        case .delete: .delete
        case .deleteRange: .deleteRange
        case .compareAndSet: .compareAndSet
        case .increment: .increment
        case .check: .check
        case .batch: .batch
        case .user: .user
        }
    }

    /// 0 for none. An expiry of 0 would be before every clock, and is refused.
    private func expiryField() throws(CommandError) -> UInt64 {
        let expiresAt: UInt64?
        switch self {
        case .put(_, _, let at): expiresAt = at
        case .compareAndSet(_, _, let value, let at):
            if value == nil, at != nil { throw .malformed }
            expiresAt = at
        default: expiresAt = nil
        }
        guard let expiresAt else { return 0 }
        if expiresAt == 0 { throw .malformed }
        return expiresAt
    }

    private static func appendValue(
        _ value: Bytes, to writer: inout ByteWriter
    ) throws(CommandError) {
        if value.count > CommandLimits.maxValueBytes { throw .valueTooLarge }
        writer.append(value)
    }

    private static func appendExpectation(
        _ expected: Expectation, outcome: UInt8, to writer: inout ByteWriter
    ) throws(CommandError) {
        let kind: UInt8
        switch expected {
        case .absent: kind = 0
        case .version: kind = 1
        case .value: kind = 2
        }
        writer.append(kind)
        writer.append(outcome)
        writer.append(UInt16(0))
        switch expected {
        case .absent: writer.append(UInt32(0))
        case .version(let version):
            writer.append(UInt32(8))
            writer.append(version)
        case .value(let value):
            if value.count > CommandLimits.maxValueBytes { throw .valueTooLarge }
            writer.append(UInt32(value.count))
            writer.append(value)
        }
    }
}
