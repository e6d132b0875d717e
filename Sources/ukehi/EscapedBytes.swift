// Bytes as a person reads and types them.
//
//   printable text   as it is            name
//   a backslash      doubled             a\\b
//   anything else    \xNN per byte       \x00\x1b
//
// What is printed can be typed back: escape and unescape are each other's inverse. A key that holds
// terminal control codes therefore never reaches the terminal as such.

import Ukehi

/// The text that stands for `bytes`.
func escaped(_ bytes: Bytes) -> String {
    var text = ""
    var rest = bytes.array[...]
    while let byte = rest.first {
        if let scalar = leadingScalar(rest), isPrintable(scalar) {
            text.unicodeScalars.append(scalar)
            if scalar == "\\" { text.unicodeScalars.append(scalar) }
            rest = rest.dropFirst(UTF8.width(scalar))
        } else {
            let digits = String(byte, radix: 16)
            text += "\\x" + (digits.count == 1 ? "0" : "") + digits
            rest = rest.dropFirst()
        }
    }
    return text
}

/// The bytes that `text` stands for; nil after a backslash that begins no escape.
func unescaped(_ text: String) -> Bytes? {
    var bytes: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
        guard byte == UInt8(ascii: "\\") else {
            bytes.append(byte)
            continue
        }
        switch rest.popFirst() {
        case UInt8(ascii: "\\"): bytes.append(UInt8(ascii: "\\"))
        case UInt8(ascii: "x"):
            guard let high = hexDigit(rest.popFirst()), let low = hexDigit(rest.popFirst()) else {
                return nil
            }
            bytes.append(high << 4 | low)
        default: return nil
        }
    }
    return Bytes(bytes)
}

private func hexDigit(_ byte: UInt8?) -> UInt8? {
    guard let byte, let value = Character(UnicodeScalar(byte)).hexDigitValue else { return nil }
    return UInt8(value)
}

/// The scalar that the bytes begin with, if they begin with valid UTF-8.
private func leadingScalar(_ bytes: ArraySlice<UInt8>) -> UnicodeScalar? {
    var decoder = UTF8()
    var iterator = bytes.prefix(4).makeIterator()
    guard case .scalarValue(let scalar) = decoder.decode(&iterator) else { return nil }
    return scalar
}

/// Whether a terminal shows the scalar as itself: no controls, nothing invisible or reordering.
private func isPrintable(_ scalar: UnicodeScalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator,
        .paragraphSeparator:
        false
    case .spaceSeparator: scalar == " "
    default: true
    }
}
