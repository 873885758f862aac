"""IPv4 and IPv6 addresses. What is no address is null; an octet with a leading zero is none."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, collapse_addresses
from itertools import groupby, pairwise

from sqlglot import exp

from trailhawk.kql.functions import expressions, sql
from trailhawk.kql.functions.dynamic import struct, texts
from trailhawk.kql.functions.registry import (
    Arg,
    Bool,
    Dynamic,
    DynamicArg,
    Integer,
    Long,
    LongArg,
    NeedsConstantError,
    Sql,
    String,
    StringArg,
    scalar,
)
from trailhawk.kql.types import KqlType

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_WHOLE = rf"^(?:{_OCTET}\.){{3}}{_OCTET}$"
_SPACE = r"[\t\n\f\r ]"
_PARTS = rf"^{_SPACE}*({_OCTET})\.({_OCTET})\.({_OCTET})\.({_OCTET})(?:/(3[0-2]|[12]?[0-9]))?{_SPACE}*$"
_UNUSUAL = rf"/|^{_SPACE}|{_SPACE}$"
_NAMES = ("a", "b", "c", "d", "prefix")
_AT_ONCE = 1000
"""Networks in a pattern: RE2 refuses one of some tens of thousands."""
_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")


def _operation(kind: type[exp.Binary], left: Sql, right: Sql | int | str) -> Sql:
    return sql.binary(kind, left.copy(), sql.literal(right))


def _least(*values: Sql) -> Sql:
    return sql.call("least", *[value.copy() for value in values])


# --- IPv4 --------------------------------------------------------------------------------------------------


def _parsed(text: Sql) -> Sql:
    """A struct of the address as a `number` and its `prefix` length, 32 if not given; NULLs if it is none."""
    names = exp.Array(expressions=[sql.literal(name) for name in _NAMES])

    def parts(match: Sql) -> Sql:
        octets: list[Sql] = [sql.try_cast(sql.field(match.copy(), name), KqlType.LONG) for name in _NAMES[:4]]
        number = _joined(octets)
        given = sql.try_cast(sql.field(match.copy(), "prefix"), KqlType.LONG)
        valid = sql.negate(sql.is_null(octets[0].copy()))
        prefix = sql.case((valid, sql.coalesce(given, sql.literal(32))), otherwise=exp.Null())
        return struct(number=number, prefix=prefix)

    return sql.let(sql.call("regexp_extract", text, _PARTS, names), "th_match", parts)


def _joined(octets: Sequence[Sql]) -> Sql:
    """The number of four octets."""
    number = octets[0]
    for octet in octets[1:]:
        number = sql.binary(exp.Add, sql.binary(exp.Mul, number, sql.literal(256)), octet)
    return number


def _masked(number: Sql, prefix: Sql) -> Sql:
    """The number with the bits after the prefix cleared."""
    one = sql.cast(sql.literal(1), KqlType.LONG)
    size = sql.binary(exp.BitwiseLeftShift, one, _operation(exp.Sub, sql.literal(32), prefix.copy()))
    return _operation(exp.Sub, number, _operation(exp.Mod, number, size))


def _with_address(text: Sql, name: str, body: Callable[[Sql, Sql], Sql]) -> Sql:
    """`body` over the number and the prefix of an address."""
    return sql.let(
        _parsed(text), name, lambda ip: body(sql.field(ip, "number"), sql.field(ip.copy(), "prefix"))
    )


def _of_form(ip: Sql, usual: Callable[[Sql], Sql], unusual: Callable[[Sql], Sql], type_: KqlType) -> Sql:
    """`usual` over a text of four octets alone, `unusual` over one that may have spaces or a prefix.

    The usual one is told by plain functions of the text. Those the engine computes once for each text of a
    column's dictionary: a tenth of the time of `unusual`.
    """

    def either(text: Sql) -> Sql:
        return sql.case(
            (expressions.matches(text, _WHOLE), usual(text.copy())),
            (expressions.matches(text.copy(), _UNUSUAL), unusual(text.copy())),
            otherwise=sql.null(type_),
        )

    return sql.let(ip, "th_ip_text", either)


def _network(text: str, prefix: int = 32) -> IPv4Network | None:
    """The network of a constant address, cut to its prefix and this one."""
    found = re.fullmatch(_PARTS, text)
    if found is None:
        return None
    return IPv4Network((".".join(found.groups()[:4]), min(int(found[5] or 32), prefix)), strict=False)


def _begins(ip: Sql, networks: Sequence[IPv4Network]) -> Sql:
    """Does a usual address begin as those of one of the networks do?"""
    if not networks:
        return exp.false()
    parts = [networks[first : first + _AT_ONCE] for first in range(0, len(networks), _AT_ONCE)]
    patterns = [f"^(?:{'|'.join(map(_beginning, part))})" for part in parts]
    return sql.any_of(*[expressions.matches(ip.copy(), pattern) for pattern in patterns])


def _beginning(network: IPv4Network) -> str:
    whole, bits = divmod(network.prefixlen, 8)
    octets = str(network.network_address).split(".")
    given = octets[:whole]
    if bits or not whole:
        first = int(octets[whole])
        given.append(_numbers(range(first, first + 2 ** (8 - bits))))
    return r"\.".join(given) + ("$" if len(given) == 4 else r"\.")


def _numbers(numbers: range) -> str:
    """A pattern of the numbers: `(?:[8-9]|1[0-5])`."""
    tens = {ten: [number % 10 for number in group] for ten, group in groupby(numbers, lambda n: n // 10)}
    return "(?:" + "|".join(f"{ten or ''}[{digits[0]}-{digits[-1]}]" for ten, digits in tens.items()) + ")"


def _valid_prefix(prefix: Sql) -> Sql:
    """The prefix length, NULL unless it is 0 to 32."""
    inside = exp.Between(this=prefix.copy(), low=sql.literal(0), high=sql.literal(32))
    return sql.case((inside, prefix), otherwise=exp.Null())


def _strict(value: Sql, *needed: Sql) -> Sql:
    """The value, NULL if one of the others is (least() leaves NULLs out)."""
    return sql.case((sql.any_of(*[sql.is_null(item.copy()) for item in needed]), exp.Null()), otherwise=value)


@scalar()
def parse_ipv4(ip: String) -> Long:
    """The address as a number, cut to its prefix if it has one; null of what is no address.

    >>> parse_ipv4("192.168.1.1")
    3232235777
    >>> parse_ipv4("192.168.1.1/24")
    3232235776
    >>> parse_ipv4(" 192.168.1.1")
    3232235777
    >>> parse_ipv4("06.237.252.245")
    null
    """
    return _of_form(ip, _number, lambda text: _with_address(text, "th_ip", _masked), KqlType.LONG)


def _number(ip: Sql) -> Sql:
    """The number of a usual address."""
    octets = [
        sql.try_cast(sql.call("regexp_extract", ip.copy(), rf"^(?:\d+\.){{{place}}}(\d+)", 1), KqlType.LONG)
        for place in range(4)
    ]
    return _joined(octets)


@scalar()
def parse_ipv4_mask(ip: String, prefix: Long) -> Long:
    """The address as a number, cut to a prefix length.

    >>> parse_ipv4_mask("127.0.0.1", 24)
    2130706432
    """
    wanted = _valid_prefix(prefix)
    return _with_address(
        ip, "th_ip", lambda number, own: _strict(_masked(number, _least(own, wanted)), own, wanted)
    )


def _compared(
    left: Sql,
    right: Arg,
    prefix: Arg | None,
    result: Callable[[Sql, Sql], Sql],
    usual: Callable[[Sql, IPv4Network], Sql],
    type_: KqlType,
) -> Sql:
    """`result` over two addresses cut to the shortest of their prefixes and the one given; `usual` over the
    text of a usual one and a constant."""
    given = [] if prefix is None else [_valid_prefix(prefix.sql)]

    def both(one: Sql, one_prefix: Sql, two: Sql, two_prefix: Sql) -> Sql:
        shared = _least(one_prefix, two_prefix, *given)
        compared = result(_masked(one, shared), _masked(two, shared))
        return _strict(compared, one_prefix, two_prefix, *given)

    def compared(text: Sql) -> Sql:
        return _with_address(
            text,
            "th_left",
            lambda one, p: _with_address(right.sql, "th_right", lambda two, q: both(one, p, two, q)),
        )

    shortest = 32 if prefix is None else prefix.value
    if not isinstance(right.value, str) or not isinstance(shortest, int) or not 0 <= shortest <= 32:
        return compared(left)
    network = _network(right.value, shortest)
    if network is None:
        return sql.null(type_)
    return _of_form(left, lambda text: usual(text, network), compared, type_)


def _order(left: Sql, right: Sql) -> Sql:
    return sql.case(
        (_operation(exp.LT, left, right), sql.literal(-1)),
        (_operation(exp.GT, left, right), sql.literal(1)),
        otherwise=sql.literal(0),
    )


def _same(left: Sql, right: Sql) -> Sql:
    return _operation(exp.EQ, left, right)


@scalar()
def ipv4_compare(left: String, right: StringArg, prefix: LongArg | None = None) -> Long:
    """-1, 0 or 1 as the left address is less than, equal to or greater than the right one, up to the prefix.

    >>> ipv4_compare("192.168.1.1", "192.168.1.255/24")
    0
    >>> ipv4_compare("192.168.1.1", "192.168.1.255")
    -1
    >>> ipv4_compare("192.168.1.1", "192.168.1.0", 31)
    0
    """

    def order(text: Sql, network: IPv4Network) -> Sql:
        number = _masked(_number(text), sql.literal(network.prefixlen))
        return sql.call("sign", _operation(exp.Sub, number, int(network[0])))

    return sql.cast(_compared(left, right, prefix, _order, order, KqlType.LONG), KqlType.LONG)


@scalar()
def ipv4_is_match(left: String, right: StringArg, prefix: LongArg | None = None) -> Bool:
    """Are two addresses equal up to their prefix? Null if one is none.

    >>> ipv4_is_match("192.168.1.1/24", "192.168.1.255")
    True
    >>> ipv4_is_match("192.168.1.1", "192.168.1.256")
    null
    """
    return _compared(left, right, prefix, _same, lambda text, network: _begins(text, [network]), KqlType.BOOL)


def _in_constant(ip: Sql, ranges: Sequence[str]) -> Sql:
    """Is the address in one of some constant ranges? Those that are none are passed over."""
    known = [network for text in ranges if (network := _network(text)) is not None]
    networks = list(collapse_addresses(known))

    def inside(number: Sql) -> Sql:
        limits = [(sql.literal(int(one[0])), sql.literal(int(one[-1]))) for one in networks]
        tests = [exp.Between(this=number.copy(), low=low, high=high) for low, high in limits]
        unknown = sql.case((sql.is_null(number.copy()), exp.Null()), otherwise=exp.false())
        return sql.any_of(*tests) if tests else unknown

    def cut(text: Sql) -> Sql:
        return sql.let(_with_address(text, "th_ip", _masked), "th_number", inside)

    return _of_form(ip, lambda text: _begins(text, networks), cut, KqlType.BOOL)


def _in_range(ip: Sql, range_: Sql) -> Sql:
    """Is the address in the range, up to the range's prefix?"""

    def inside(first: Sql, prefix: Sql) -> Sql:
        return sql.let(
            parse_ipv4(ip), "th_number", lambda number: _same(_masked(number, prefix), _masked(first, prefix))
        )

    return _with_address(range_, "th_range", inside)


@scalar()
def ipv4_is_in_range(ip: String, ip_range: StringArg) -> Bool:
    """Is the address in the range? Null if one is none.

    >>> ipv4_is_in_range("192.168.1.6", "192.168.1.1/24")
    True
    >>> ipv4_is_in_range("192.168.2.6", "192.168.1.1/24")
    False
    >>> ipv4_is_in_range("10.0.0.0.1", "10.0.0.0/8")
    null
    """
    if isinstance(ip_range.value, str):
        return _in_constant(ip, [ip_range.value]) if _network(ip_range.value) else sql.null(KqlType.BOOL)
    return _in_range(ip, ip_range.sql)


@scalar()
def ipv4_is_in_any_range(ip: String, *ranges: StringArg) -> Bool:
    """Is the address in one of the ranges? Null if it is no address.

    >>> ipv4_is_in_any_range("192.168.1.6", "192.168.1.1/24", "10.0.0.1/8")
    True
    >>> ipv4_is_in_any_range("1.1.1.1", dynamic(["192.168.1.1/24", "10.0.0.1/8"]))
    False
    """
    constant = [range_.value for range_ in ranges if isinstance(range_.value, str)]
    tests = [_in_range(ip, range_.sql) for range_ in ranges if not isinstance(range_.value, str)]
    found = [sql.coalesce(test, exp.false()) for test in tests]
    return sql.any_of(_in_constant(ip, constant), *found)


@ipv4_is_in_any_range.overload
def _(ip: String, ranges: DynamicArg) -> Bool:
    if isinstance(ranges.value, list):
        return _in_constant(ip, [item for item in ranges.value if isinstance(item, str)])
    tests = sql.each(
        texts(ranges.sql), "th_range_text", lambda item: sql.coalesce(_in_range(ip, item), exp.false())
    )
    found = sql.coalesce(sql.call("list_bool_or", tests), exp.false())
    return sql.case((sql.is_null(parse_ipv4(ip.copy())), exp.Null()), otherwise=found)


@scalar()
def ipv4_is_private(ip: String) -> Bool:
    """Is the address one of a private network (10/8, 172.16/12, 192.168/16)? Null if it is none.

    >>> ipv4_is_private("192.168.1.1/24")
    True
    >>> ipv4_is_private("172.32.0.1")
    False
    >>> ipv4_is_private("s3.amazonaws.com")
    null
    """
    return _in_constant(ip, _PRIVATE)


@scalar()
def ipv4_netmask_suffix(ip: String) -> Long:
    """The prefix length of an address, 32 if it has none.

    >>> ipv4_netmask_suffix("192.168.1.1/24")
    24
    >>> ipv4_netmask_suffix("10.1.2.3")
    32
    """
    return sql.field(_parsed(ip), "prefix")


def _dotted(number: Sql) -> Sql:
    octets = [
        _operation(exp.BitwiseAnd, _operation(exp.BitwiseRightShift, number, shift), 255)
        for shift in (24, 16, 8, 0)
    ]
    first, *rest = [sql.cast(octet, KqlType.STRING) for octet in octets]
    return sql.joined(first, *[piece for octet in rest for piece in (".", octet)])


def _formatted(number: Sql, own: Sql, prefix: Sql, *, with_mask: bool) -> Sql:
    valid = _valid_prefix(prefix)
    shared = _least(own, valid)
    text = _dotted(_masked(number, shared))
    whole = sql.joined(text, "/", sql.cast(shared, KqlType.STRING)) if with_mask else text
    return _strict(whole, number, own, valid)


def _format(ip: Sql, prefix: Sql, *, with_mask: bool) -> Sql:
    return sql.text(
        _with_address(ip, "th_ip", lambda number, own: _formatted(number, own, prefix, with_mask=with_mask))
    )


def _format_number(ip: Sql, prefix: Sql, *, with_mask: bool) -> Sql:
    inside = exp.Between(this=ip.copy(), low=sql.literal(0), high=sql.literal(2**32 - 1))
    number = sql.case((inside, sql.cast(ip, KqlType.LONG)), otherwise=exp.Null())
    return sql.text(_formatted(number, sql.literal(32), prefix, with_mask=with_mask))


@scalar()
def format_ipv4(ip: String, prefix: Long = sql.literal(32)) -> String:  # noqa: B008  # a constant tree
    """The address, given as text or number, cut to a prefix length; '' of what is none.

    >>> format_ipv4("192.168.1.1", 24)
    192.168.1.0
    >>> format_ipv4(3232235777)
    192.168.1.1
    >>> format_ipv4("192.168.1.1", -1) == ""
    True
    """
    return _format(ip, prefix, with_mask=False)


@format_ipv4.overload
def _(ip: Integer, prefix: Long = sql.literal(32)) -> String:  # noqa: B008
    return _format_number(ip, prefix, with_mask=False)


@scalar()
def format_ipv4_mask(ip: String, prefix: Long = sql.literal(32)) -> String:  # noqa: B008
    """The address, given as text or number, cut to a prefix length and with that length.

    >>> format_ipv4_mask("192.168.1.1", 24)
    192.168.1.0/24
    >>> format_ipv4_mask("192.168.1.1/24")
    192.168.1.0/24
    """
    return _format(ip, prefix, with_mask=True)


@format_ipv4_mask.overload
def _(ip: Integer, prefix: Long = sql.literal(32)) -> String:  # noqa: B008
    return _format_number(ip, prefix, with_mask=True)


# An address in text stands alone: no letter or digit at its sides, nor another octet.
_BEFORE = r"(?:^|[^\p{L}\p{N}.]|(?:^|[^\p{N}])\.)"
_AFTER = r"(?:$|[^\p{L}\p{N}.]|\.(?:$|[^\p{N}]))"
_PREFIX = rf"^(?:{_OCTET}\.){{1,3}}$"


def _found(source: Sql, ip: Sql, *, prefixes: bool) -> Sql:
    """Does the address, or with `prefixes` one that begins so, stand in the source?"""
    constant = sql.string_value(ip)
    if constant is not None:
        pattern = _constant_pattern(constant, prefixes=prefixes)
        if pattern is None:
            return exp.false()
        hint = sql.call("contains", source, constant)
        return sql.all_of(hint, expressions.matches(source.copy(), pattern))
    quoted = sql.call("regexp_escape", ip)
    exact = expressions.matches(source, sql.joined(_BEFORE, quoted, _AFTER))
    valid = expressions.matches(ip.copy(), _WHOLE)
    whole = sql.all_of(valid, sql.call("contains", source.copy(), ip.copy()), exact)
    if not prefixes:
        return whole
    begins = [
        sql.all_of(
            expressions.matches(ip.copy(), rf"^(?:{_OCTET}\.){{{given}}}$"),
            expressions.matches(source.copy(), sql.joined(_BEFORE, quoted.copy(), _rest(4 - given), _AFTER)),
        )
        for given in (1, 2, 3)
    ]
    return sql.any_of(whole, *begins)


def _rest(octets: int) -> str:
    return _OCTET + rf"\.{_OCTET}" * (octets - 1)


def _constant_pattern(ip: str, *, prefixes: bool) -> str | None:
    quoted = ip.replace(".", r"\.")
    if re.fullmatch(_WHOLE[1:-1], ip):
        return _BEFORE + quoted + _AFTER
    if prefixes and re.fullmatch(_PREFIX[1:-1], ip):
        return _BEFORE + quoted + _rest(4 - ip.count(".")) + _AFTER
    return None


def _found_any(source: Sql, addresses: Sequence[Arg], *, prefixes: bool) -> Sql:
    return sql.any_of(*[_found(source, address.sql, prefixes=prefixes) for address in addresses])


def _found_in(source: Sql, addresses: Arg, *, prefixes: bool) -> Sql:
    if isinstance(addresses.value, list):
        known = [sql.literal(item) for item in addresses.value if isinstance(item, str)]
        tests = [_found(source, item, prefixes=prefixes) for item in known]
        return sql.any_of(*tests) if tests else exp.false()
    each = sql.each(texts(addresses.sql), "th_address", lambda item: _found(source, item, prefixes=prefixes))
    return sql.coalesce(sql.call("list_bool_or", each), exp.false())


@scalar()
def has_ipv4(source: String, ip: String) -> Bool:
    """Does the address stand in the text, delimited by other characters than letters and digits?

    >>> has_ipv4("05:04:54 127.0.0.1 GET /favicon.ico 404", "127.0.0.1")
    True
    >>> has_ipv4("05:04:54127.0.0.1 GET /favicon.ico 404", "127.0.0.1")
    False
    >>> has_ipv4("127.0.0.256", "127.0.0.256")
    False
    """
    return _found(source, ip, prefixes=False)


@scalar()
def has_ipv4_prefix(source: String, prefix: String) -> Bool:
    """Does an address that begins with the prefix (`192.`, `192.168.` ...) stand in the text?

    >>> has_ipv4_prefix("05:04:54 127.0.0.1 GET /favicon.ico 404", "127.0.")
    True
    >>> has_ipv4_prefix("05:04:54 127.0.0.1 GET /favicon.ico 404", "127.0")
    False
    """
    return _found(source, prefix, prefixes=True)


@scalar()
def has_any_ipv4(source: String, *ips: StringArg) -> Bool:
    """Does one of the addresses stand in the text?

    >>> has_any_ipv4("05:04:54 127.0.0.1 GET", "127.0.0.1", "127.0.0.2")
    True
    >>> has_any_ipv4("05:04:54 127.0.0.3 GET", dynamic(["127.0.0.1", "127.0.0.2"]))
    False
    """
    return _found_any(source, ips, prefixes=False)


@has_any_ipv4.overload
def _(source: String, ips: DynamicArg) -> Bool:
    return _found_in(source, ips, prefixes=False)


@scalar()
def has_any_ipv4_prefix(source: String, *prefixes: StringArg) -> Bool:
    """Does an address that begins with one of the prefixes stand in the text?

    >>> has_any_ipv4_prefix("05:04:54 127.0.0.1 GET", "10.", "127.0.")
    True
    >>> has_any_ipv4_prefix("05:04:54 127.0.0.1 GET", dynamic(["10.", "192.168."]))
    False
    """
    return _found_any(source, prefixes, prefixes=True)


@has_any_ipv4_prefix.overload
def _(source: String, prefixes: DynamicArg) -> Bool:
    return _found_in(source, prefixes, prefixes=True)


def _cover(first: int, last: int) -> list[str]:
    """The shortest list of ranges in prefix notation that cover first to last."""
    ranges: list[str] = []
    while first <= last:
        size = first & -first or 1 << 32
        while size > last - first + 1:
            size >>= 1
        octets = ".".join(str(first >> shift & 255) for shift in (24, 16, 8, 0))
        ranges.append(f"{octets}/{33 - size.bit_length()}")
        first += size
    return ranges


@scalar()
def ipv4_range_to_cidr_list(start: StringArg, end: StringArg) -> Dynamic:
    """The ranges in prefix notation that cover all addresses from start to end, which are constants.

    >>> ipv4_range_to_cidr_list("1.1.128.0", "1.1.140.255")
    ["1.1.128.0/21","1.1.136.0/22","1.1.140.0/24"]
    """
    if not isinstance(start.value, str) or not isinstance(end.value, str):
        raise NeedsConstantError("ipv4_range_to_cidr_list() of addresses that are not constants")
    first, last = _network(start.value), _network(end.value)
    if first is None or last is None:
        return sql.null(KqlType.DYNAMIC)
    items = [sql.literal(item) for item in _cover(int(first[0]), int(last[0]))]
    return sql.call("json_array", *items)


# --- IPv6 --------------------------------------------------------------------------------------------------

_GROUPS = r"^(?:[0-9a-f]{1,4}(?::[0-9a-f]{1,4})*)?(?:::(?:[0-9a-f]{1,4}(?::[0-9a-f]{1,4})*)?)?$"
_IPV6_PARTS = r"^([0-9a-f:.]+)(?:%[0-9a-z_.~-]+)?(?:/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))?$"


def _groups_of(text: Sql) -> Sql:
    parts = sql.call("string_split", text, ":")
    return sql.keep(parts, "th_group", lambda group: _operation(exp.NEQ, group, ""))


def _bits(address: Sql) -> Sql:
    """The 128 bits of an IPv6 address (small letters, no IPv4 notation) as text of 0 and 1; NULL if none."""

    def expanded(left: Sql, right: Sql) -> Sql:
        given = sql.binary(exp.Add, sql.call("len", left), sql.call("len", right))
        zeros = sql.each(
            sql.call("range", _operation(exp.Sub, sql.literal(8), given)),
            "th_zero",
            lambda _: sql.literal("0"),
        )
        groups = sql.call("flatten", exp.Array(expressions=[left.copy(), zeros, right.copy()]))

        def digits(group: Sql) -> Sql:
            number = sql.cast(sql.joined("0x", group), KqlType.INT)
            return sql.call("lpad", sql.call("bin", number), 16, "0")

        short = sql.call("contains", address.copy(), "::")
        fits = sql.case((short, _operation(exp.LT, given, 8)), otherwise=_operation(exp.EQ, given, 8))
        bits = sql.call("array_to_string", sql.each(groups, "th_group", digits), "")
        valid = sql.all_of(expressions.matches(address.copy(), _GROUPS), fits)
        return sql.case((valid, bits), otherwise=exp.Null())

    def half(place: int) -> Sql:
        return _groups_of(sql.call("split_part", address.copy(), "::", place))

    return sql.let(
        half(1), "th_high", lambda left: sql.let(half(2), "th_low", lambda right: expanded(left, right))
    )


def _ipv6_parsed(text: Sql) -> Sql:
    """A struct of the address's `bits` and its `prefix` length.

    An IPv4 address counts as ::ffff:a.b.c.d, with two colons before it too. A prefix of what ends in an IPv4
    address is one of IPv4. A zone (`%eth0`) is left out.
    """
    names = exp.Array(expressions=[sql.literal("address"), sql.literal("prefix")])
    match = sql.call("regexp_extract", sql.lower(text), _IPV6_PARTS, names)

    def parts(found: Sql) -> Sql:
        address, given = sql.field(found, "address"), sql.field(found.copy(), "prefix")
        tail = sql.call("regexp_extract", address, r"([0-9.]*\.[0-9]+)$", 1)
        return sql.let(parse_ipv4(tail), "th_tail", lambda number: whole(address, tail, number, given))

    def whole(address: Sql, tail: Sql, number: Sql, given: Sql) -> Sql:
        is_ipv4 = sql.any_of(
            _operation(exp.EQ, address, tail.copy()),
            _operation(exp.EQ, address.copy(), sql.joined("::", tail.copy())),
        )
        head = sql.call("regexp_extract", address.copy(), r"^(.*:)[0-9.]+$", 1)
        start = sql.case((is_ipv4, sql.literal("::ffff:")), otherwise=head)
        high = sql.call("to_hex", _operation(exp.IntDiv, number, 65536))
        low = sql.call("to_hex", _operation(exp.Mod, number, 65536))
        mixed = sql.joined(start, sql.lower(high), ":", sql.lower(low))
        no_tail = _operation(exp.EQ, tail, "")
        known = sql.negate(sql.is_null(number.copy()))
        plain = sql.case((no_tail, address.copy()), (known, mixed), otherwise=sql.literal("-"))
        shift = sql.case((no_tail.copy(), sql.literal(0)), otherwise=sql.literal(96))
        length = sql.coalesce(sql.binary(exp.Add, sql.try_cast(given, KqlType.INT), shift), sql.literal(128))
        too_long = _operation(exp.GT, length, 128)
        known_or_none = sql.case((too_long, sql.literal("-")), otherwise=plain)
        return sql.let(
            known_or_none, "th_plain", lambda value: struct(bits=_bits(value), prefix=length.copy())
        )

    return sql.let(match, "th_ipv6", parts)


def _with_ipv6(text: Sql, name: str, body: Callable[[Sql, Sql], Sql]) -> Sql:
    return sql.let(
        _ipv6_parsed(text), name, lambda ip: body(sql.field(ip, "bits"), sql.field(ip.copy(), "prefix"))
    )


def _ipv6_compared(left: Sql, right: Sql, prefix: Sql | None, result: Callable[[Sql, Sql], Sql]) -> Sql:
    given = [] if prefix is None else [prefix]

    def both(one: Sql, one_prefix: Sql, two: Sql, two_prefix: Sql) -> Sql:
        shared = _least(one_prefix, two_prefix, *given)
        compared = result(sql.call("left", one, shared), sql.call("left", two, shared.copy()))
        wrong = [
            exp.Not(this=exp.Between(this=p.copy(), low=sql.literal(0), high=sql.literal(128))) for p in given
        ]
        missing = [sql.is_null(item.copy()) for item in (one, two, *given)]
        return sql.case((sql.any_of(*missing, *wrong), exp.Null()), otherwise=compared)

    return _with_ipv6(
        left, "th_left", lambda one, p: _with_ipv6(right, "th_right", lambda two, q: both(one, p, two, q))
    )


@scalar()
def ipv6_compare(left: String, right: String, prefix: Long | None = None) -> Long:
    """-1, 0 or 1 as the left address comes before, equals or comes after the right one, up to the prefix.

    >>> ipv6_compare("fe80::85d:e82c:9446:7994", "fe80::85d:e82c:9446:7995", 127)
    0
    >>> ipv6_compare("192.168.1.1", "::ffff:c0a8:0102")
    -1
    """
    return sql.cast(_ipv6_compared(left, right, prefix, _order), KqlType.LONG)


@scalar()
def ipv6_is_match(left: String, right: String, prefix: Long | None = None) -> Bool:
    """Are two addresses equal up to their prefix? Null if one is none.

    >>> ipv6_is_match("fe80::85d:e82c:9446:7994/120", "fe80::85d:e82c:9446:7998")
    True
    >>> ipv6_is_match("fe80::1::2", "::1")
    null
    """
    return _ipv6_compared(left, right, prefix, _same)


def _in_ipv6_range(ip: Sql, range_: Sql) -> Sql:
    def inside(start: Sql, prefix: Sql) -> Sql:
        return _with_ipv6(
            ip,
            "th_ip",
            lambda bits, _: _same(sql.call("left", bits, prefix), sql.call("left", start, prefix.copy())),
        )

    return _with_ipv6(range_, "th_range", inside)


@scalar()
def ipv6_is_in_range(ip: String, ip_range: String) -> Bool:
    """Is the address in the range? Null if one is none.

    >>> ipv6_is_in_range("a5e:f127:8a9d:146d:e102:b5d3:c755:abcd", "a5e:f127:8a9d:146d:e102:b5d3:c755:0/112")
    True
    >>> ipv6_is_in_range("2001:db8::1", "fe80::/10")
    False
    """
    return _in_ipv6_range(ip, ip_range)


@scalar()
def ipv6_is_in_any_range(ip: String, *ranges: String) -> Bool:
    """Is the address in one of the ranges? Null if it is no address.

    >>> ipv6_is_in_any_range("2001:db8::1", "fe80::/10", "2001:db8::/32")
    True
    """
    tests = [sql.coalesce(_in_ipv6_range(ip, range_), exp.false()) for range_ in ranges]
    return _unless_no_ipv6(ip, sql.any_of(*tests))


@ipv6_is_in_any_range.overload
def _(ip: String, ranges: Dynamic) -> Bool:
    tests = sql.each(
        texts(ranges), "th_range_text", lambda item: sql.coalesce(_in_ipv6_range(ip, item), exp.false())
    )
    return _unless_no_ipv6(ip, sql.coalesce(sql.call("list_bool_or", tests), exp.false()))


def _unless_no_ipv6(ip: Sql, value: Sql) -> Sql:
    return sql.case((sql.is_null(sql.field(_ipv6_parsed(ip.copy()), "bits")), exp.Null()), otherwise=value)


def _canonical(bits: Sql, prefix: Sql) -> Sql:
    """All eight groups in full, with the bits after the prefix cleared; '' of NULL."""
    cut = sql.call("rpad", sql.call("left", bits, prefix), 128, "0")

    def groups(text: Sql) -> Sql:
        parts: list[Sql | str] = []
        for start, _ in pairwise(range(1, 130, 16)):
            number = sql.cast(sql.joined("0b", sql.call("substring", text.copy(), start, 16)), KqlType.INT)
            parts += [":", sql.call("lpad", sql.lower(sql.call("to_hex", number)), 4, "0")]
        return sql.case((sql.is_null(text), exp.Null()), otherwise=sql.joined(*parts[1:]))

    return sql.text(sql.let(cut, "th_bits", groups))


@scalar()
def parse_ipv6(ip: String) -> String:
    """The address written in full, cut to its prefix; '' of what is none.

    >>> parse_ipv6("::1")
    0000:0000:0000:0000:0000:0000:0000:0001
    >>> parse_ipv6("127.0.0.1")
    0000:0000:0000:0000:0000:ffff:7f00:0001
    >>> parse_ipv6("::127.0.0.1/24")
    0000:0000:0000:0000:0000:ffff:7f00:0000
    >>> parse_ipv6("fe80::1%eth0")
    fe80:0000:0000:0000:0000:0000:0000:0001
    >>> parse_ipv6("127.0.0.1/33") == ""
    True
    """
    return _with_ipv6(ip, "th_ip", _canonical)


@scalar()
def parse_ipv6_mask(ip: String, prefix: Long) -> String:
    """The address written in full, cut to a prefix length; '' of what is none.

    >>> parse_ipv6_mask("fe80::85d:e82c:9446:7994", 120)
    fe80:0000:0000:0000:085d:e82c:9446:7900
    """

    def cut(bits: Sql, own: Sql) -> Sql:
        inside = exp.Between(this=prefix.copy(), low=sql.literal(0), high=sql.literal(128))
        return sql.case((inside, _canonical(bits, _least(own, prefix))), otherwise=sql.literal(""))

    return _with_ipv6(ip, "th_ip", cut)
