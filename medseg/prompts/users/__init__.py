"""Simulated users, who prompt where a mask is wrong: for training and for evaluation."""

from medseg.prompts.users.boxes import BoxUser
from medseg.prompts.users.clicks import ClickUser
from medseg.prompts.users.lassos import LassoUser
from medseg.prompts.users.mixed import USERS, MixedUser, user_by_name
from medseg.prompts.users.scribbles import ScribbleUser
from medseg.prompts.users.user import User

__all__ = ["USERS", "BoxUser", "ClickUser", "LassoUser", "MixedUser", "ScribbleUser", "User", "user_by_name"]
